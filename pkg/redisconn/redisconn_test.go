package redisconn_test

import (
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/redisconn"
	"github.com/chatr-dev/chatr/pkg/testkit"
)

func TestOpen(t *testing.T) {
	server := testkit.Redis(t, "--requirepass", "s3/cret")
	url := strings.Replace(server.URL, "://", "://:s3%2Fcret@", 1)
	client, err := redisconn.Open(redisconn.Config{URL: url, Prefix: "chatr"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct{ name, url, prefix, want string }{
		{"single server", "redis://127.0.0.1:6379/1", "chatr", ""},
		{"TLS and password", "rediss://user:pw@redis.example:6380", "a.b-c_1", ""},
		{"Sentinel", "redis://:sentinelpw@s1:26379/0?master_name=main&addr=s2:26379&password=pw", "chatr", ""},
		{"cluster", "rediss://:pw@c1:6379?cluster=true&addr=c2:6379", "chatr", ""},
		{"cluster with database 0", "redis://c1:6379/0?cluster=true", "chatr", ""},
		{"cluster with a database", "redis://:s3cret@c1:6379/1?cluster=true", "chatr", "no database but 0"},
		{"cluster behind Sentinel", "redis://:s3cret@c1:6379?cluster=true&master_name=main", "chatr", "no master_name"},
		{"perhaps a cluster", "redis://:s3cret@c1:6379?cluster=perhaps", "chatr", "cluster=true"},
		{"no scheme", "127.0.0.1", "chatr", "invalid URL scheme"},
		{"other scheme", "http://s3cret@x", "chatr", "invalid URL scheme"},
		{"slash in the password", "redis://:s3cret/x@host:6379", "chatr", "percent-encoded"},
		{"unknown option", "redis://:s3cret@host?retries=4", "chatr", "retries"},
		{"database", "redis://:s3cret@host/many", "chatr", "database"},
		{"no prefix", "redis://host", "", "redis.prefix"},
		{"space in prefix", "redis://host", "my chat", "redis.prefix"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := redisconn.Config{URL: test.url, Prefix: test.prefix}.Validate()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			case err != nil && strings.Contains(err.Error(), "s3cret"):
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}
