package tenant

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
)

// A template is a URL with parameters in braces: some that its kind knows, such as {hub} and {event}, and secrets that
// shall not stand in the settings: {file:/run/secrets/code} and {env:CODE}.

// expandURL replaces the parameters of a template by values, which have their names in lower case.
func expandURL(template string, values map[string]string) (string, error) {
	return expand(template, func(name string) (string, error) {
		if secret, ok, err := readSecret(name); ok {
			return escape(secret), err
		}
		value, ok := values[strings.ToLower(name)]
		if !ok {
			return "", unknownParameter(name, values)
		}
		return url.PathEscape(value), nil
	})
}

func unknownParameter(name string, known map[string]string) error {
	names := make([]string, 0, len(known))
	for _, n := range []string{"hub", "category", "event"} { // in the order in which people write them
		if _, ok := known[n]; ok {
			names = append(names, "{"+n+"}")
		}
	}
	return fmt.Errorf("has the unknown parameter {%.40s}; only %s, {file:/path} and {env:NAME} can be used", name, strings.Join(names, ", "))
}

// escape makes any text safe within one path segment or query value.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// expand replaces each {name} of template by what value says.
func expand(template string, value func(name string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(template, "{")
		if strings.Contains(before, "}") {
			return "", errors.New("has } without {; write a literal brace as %7D")
		}
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return "", errors.New("has { without }; write a literal brace as %7B")
		}
		v, err := value(name)
		if err != nil {
			return "", err
		}
		b.WriteString(v)
		template = after
	}
}

// maxSecret is the length of a secret in bytes, at most.
const maxSecret = 16 << 10

// readSecret returns the secret that a parameter refers to; ok is false when it refers to none. Errors name where the
// secret should be, never the secret.
func readSecret(parameter string) (secret string, ok bool, err error) {
	kind, where, _ := strings.Cut(parameter, ":")
	switch strings.ToLower(kind) {
	case "env":
		if secret = os.Getenv(where); secret == "" {
			err = fmt.Errorf("the environment variable %.80q is not set; it should hold a secret", where)
		}
		return secret, true, err
	case "file":
		secret, err = readSecretFile(where)
		return secret, true, err
	}
	return "", false, nil
}

// readSecretFile returns the content of a file without the line end that editors leave there.
func readSecretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	text := strings.TrimRight(string(b), "\r\n")
	switch {
	case err != nil:
		return "", fmt.Errorf("read a secret: %w", err)
	case text == "" || len(b) > maxSecret:
		return "", fmt.Errorf("the file %.200q holds no secret; it should have 1 to %d bytes", path, maxSecret)
	}
	return text, nil
}

// checkReference reports what is wrong with a reference to a secret; ok is false when it is none. Whether the secret is
// there does not matter yet: services that share a settings file do not share its secrets.
func checkReference(parameter string) (ok bool, err error) {
	kind, where, _ := strings.Cut(parameter, ":")
	switch strings.ToLower(kind) {
	case "env":
		if where == "" || strings.ContainsAny(where, "=\x00") {
			err = errors.New("has {env:} without the name of an environment variable")
		}
		return true, err
	case "file":
		if !strings.HasPrefix(where, "/") {
			err = errors.New("has {file:} without an absolute path")
		}
		return true, err
	}
	return false, nil
}

// ReadKey returns an access key itself: the text, or if all of it is {file:/path} or {env:NAME}, the secret that it refers to. Any
// other text is a key as it stands, braces included.
func ReadKey(text string) (string, error) {
	name, ok := keyReference(text)
	if !ok {
		return text, nil
	}
	if _, err := checkReference(name); err != nil {
		return "", err
	}
	key, _, err := readSecret(name)
	return key, err
}

// KeyFile returns the file that ReadKey reads a key from; empty when it reads none.
func KeyFile(text string) string {
	name, ok := keyReference(text)
	if kind, where, _ := strings.Cut(name, ":"); ok && strings.EqualFold(kind, "file") {
		return where
	}
	return ""
}

// keyReference returns what stands between the braces of a key that refers to a secret.
func keyReference(text string) (name string, ok bool) {
	name, opened := strings.CutPrefix(text, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !opened || !closed || strings.ContainsAny(name, "{}") {
		return "", false
	}
	kind, _, ok := strings.Cut(name, ":")
	return name, ok && (strings.EqualFold(kind, "file") || strings.EqualFold(kind, "env"))
}

// authorityOf returns host and port of a template.
func authorityOf(template string) string {
	_, rest, _ := strings.Cut(template, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return rest[strings.LastIndexByte(rest, '@')+1:]
}

// checkURL reports what is wrong with a template whose parameters are known. Errors do not repeat it: it may hold a
// secret.
func checkURL(template string, known ...string) error {
	scheme, rest, ok := strings.Cut(template, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
		return errors.New("must begin with http:// or https://")
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	if strings.ContainsAny(authority, "{}") {
		return errors.New("has a parameter in its host; parameters can only stand in path and query")
	}
	values := map[string]string{}
	for _, name := range known {
		values[name] = "x"
	}
	address, err := expand(template, func(name string) (string, error) {
		if ok, err := checkReference(name); ok {
			return "x", err
		}
		if _, ok := values[strings.ToLower(name)]; !ok {
			return "", unknownParameter(name, values)
		}
		return "x", nil
	})
	if err != nil {
		return err
	}
	switch u, err := url.Parse(address); {
	case err != nil:
		return errors.New("is not a URL; it should look like http://host:port/path/{event}")
	case u.Hostname() == "":
		return errors.New("has no host; it should look like http://host:port/path/{event}")
	case u.Fragment != "":
		return errors.New("has a fragment (#…), which is never sent")
	}
	return nil
}
