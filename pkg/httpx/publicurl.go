package httpx

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// CheckPublicURL reports what is wrong with the address of a server as settings have it, with an error that can follow the
// text itself.
func CheckPublicURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" ||
		u.Fragment != "" || u.User != nil {
		return errors.New("is not the address of a server; write http://host[:port] or https://host[:port], with nothing behind it")
	}
	return nil
}

var hostForm = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?$`)

// CheckAcceptedHost reports what is wrong with a host as lists of accepted ones have it: host[:port], or the address of a
// server, whose scheme then counts too. The error can follow the text itself.
func CheckAcceptedHost(text string) error {
	if strings.Contains(text, "://") {
		return CheckPublicURL(text)
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), "1"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || net.ParseIP(host) == nil && !hostForm.MatchString(host) {
		return errors.New("is not a host; write host[:port], http://host[:port] or https://host[:port]")
	}
	return nil
}

// HostOf returns the host of a public URL without its port; of what is no URL, the text itself.
func HostOf(text string) string {
	if u, err := url.Parse(text); strings.Contains(text, "://") && err == nil {
		return u.Hostname()
	}
	return text
}
