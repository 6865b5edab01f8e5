package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type settings struct {
	Listen    string        `default:":8080" help:"address"`
	TLSListen string        `help:"address for https"`
	DrainTime time.Duration `default:"20s" help:"time to leave"`
	Size      int           `default:"7"`
	Guests    bool          `default:"true"`
	Origins   []string
	Redis     struct {
		URL string `secret:"true" help:"where Redis is"`
	}
	Tenants []struct {
		Name string `yaml:"name"`
	} `file:"only"`
	Internal int `config:"-"`
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestEachSourceWinsOverTheOneBefore(t *testing.T) {
	yaml := file(t, "listen: from-file\ntlsListen: from-file\ndrainTime: 1m\norigins: [a, b]\nredis:\n  url: from-file\ntenants:\n  - name: acme\n")
	secret := file(t, "redis://:s3cret@host\n")
	var got settings
	_, err := Load(&got, "test", Source{
		Args: []string{"--config", yaml, "--tls-listen", "from-flag", "--guests=false"},
		Env:  []string{"CHATR_TLS_LISTEN=from-env", "CHATR_DRAIN_TIME=2m", "CHATR_REDIS_URL_FILE=" + secret, "PATH=/bin", "CHATR_SERVICE_HOST=10.0.0.1", "CHATR_GATEWAY_PORT_8080_TCP_ADDR=10.0.0.1"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var want settings
	want.Listen, want.TLSListen, want.DrainTime, want.Size = "from-file", "from-flag", 2*time.Minute, 7
	want.Origins, want.Redis.URL = []string{"a", "b"}, "redis://:s3cret@host"
	want.Tenants = append(want.Tenants, struct {
		Name string `yaml:"name"`
	}{"acme"})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEveryWrongSettingIsReported(t *testing.T) {
	yaml := file(t, "liten: x\nsize: many\nredis: {uri: x}\ntenants:\n  - nam: x\nlisten: a\nlisten: b\n")
	secret := file(t, "x")
	var s settings
	_, err := Load(&s, "test", Source{
		Args: []string{"--config", yaml, "--drain-time", "soon", "--redis-url", "x", "--redis-url-file", secret, "extra"},
		Env:  []string{"CHATR_LISTN=x", "CHATR_GUESTS=maybe"},
	}, nil)
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{
		"line 1: liten is not a setting", `size: "many" is not a whole number`, "redis.uri is not a setting", "line 5: tenants[0].nam is not a setting; did you mean name?",
		"listen is given twice", `--drain-time: "soon" is not a duration; write it like 30s`, "both as a value and as a file",
		`unexpected argument "extra"`, "CHATR_LISTN is not a setting", `CHATR_GUESTS: "maybe" is not a boolean`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant it to contain %q", err, want)
		}
	}
}

func TestUnknownFlagAndHelp(t *testing.T) {
	var s settings
	if _, err := Load(&s, "test", Source{Args: []string{"--nope"}}, nil); err == nil || !strings.Contains(err.Error(), "there is no flag --nope") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
	if _, err := Load(&s, "test", Source{Args: []string{"--redis-url"}}, nil); err == nil || !strings.Contains(err.Error(), "--redis-url needs a value") {
		t.Errorf("got %v, want an error that asks for a value", err)
	}
	var out bytes.Buffer
	if _, err := Load(&s, "test", Source{Args: []string{"--help"}}, &out); !errors.Is(err, ErrHelp) || !strings.Contains(out.String(), "--redis-url") {
		t.Errorf("got %v and %q, want usage", err, out.String())
	}
}

func TestSecretsAreNotQuotedInErrors(t *testing.T) {
	var s struct {
		Pin int `secret:"true"`
	}
	_, err := Load(&s, "test", Source{Env: []string{"CHATR_PIN=hunter2"}}, nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the value", err)
	}
}

func TestMarkdown(t *testing.T) {
	var out bytes.Buffer
	WriteMarkdown(&out, &settings{})
	for _, want := range []string{
		"| `redis.url` | `--redis-url` or `--redis-url-file` | `CHATR_REDIS_URL` or `CHATR_REDIS_URL_FILE` | string |  | where Redis is |",
		"| `tlsListen` | `--tls-listen` | `CHATR_TLS_LISTEN` | string |  | address for https |",
		"| `tenants` | | | YAML | |  |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwant it to contain %q", out.String(), want)
		}
	}
}
