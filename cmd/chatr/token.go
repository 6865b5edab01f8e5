package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/config"
	"github.com/chatr-dev/chatr/pkg/token"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// tokenSettings are the flags of chatr token.
type tokenSettings struct {
	Endpoint  string        `default:"http://localhost:8080" help:"public address of the gateways"`
	AccessKey string        `secret:"true" help:"key that signs; empty: the one that standalone keeps in the data folder"`
	Data      string        `default:"./data" help:"standalone's data folder"`
	Hub       string        `default:"chat" help:"hub to connect to"`
	User      string        `help:"user id; empty: none"`
	Role      []string      `help:"roles, such as webpubsub.joinLeaveGroup,webpubsub.sendToGroup"`
	Group     []string      `help:"groups to be in from the start"`
	Lifetime  time.Duration `default:"1h" help:"how long the token can be used to connect"`
}

func runToken(_ context.Context, args []string, out io.Writer) error {
	var s tokenSettings
	if _, err := config.Load(&s, "token", config.Source{Args: args, Env: tokenEnv(), Intro: toolIntro}, out); err != nil {
		return err
	}
	if s.AccessKey == "" {
		if _, err := os.Stat(filepath.Join(s.Data, accessKeyFile)); err != nil { // a key made here would be nobody's
			return fmt.Errorf("no access key: give --access-key, or --data with the folder of chatr standalone (%w)", err)
		}
		key, err := keptKey(s.Data, accessKeyFile)
		if err != nil {
			return err
		}
		s.AccessKey = key
	}
	if _, err := webpubsub.ParseHub(s.Hub); err != nil {
		return err
	}
	if len(s.AccessKey) < minKey {
		return fmt.Errorf("--access-key has %d characters; it needs at least %d", len(s.AccessKey), minKey)
	}
	if s.Lifetime < time.Second {
		return fmt.Errorf("--lifetime is %v; it must be at least 1s", s.Lifetime)
	}
	endpoint := strings.TrimSuffix(s.Endpoint, "/")
	if !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		return fmt.Errorf("--endpoint %q must start with http:// or https://", s.Endpoint)
	}
	path := endpoint + "/client/hubs/" + s.Hub
	signed, err := token.Sign(s.AccessKey, path, s.Lifetime, token.Options{Subject: s.User, Roles: s.Role, Groups: s.Group})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ws"+strings.TrimPrefix(path, "http")+"?access_token="+signed)
	return nil
}

// toolIntro stands in the help of commands that are no services.
const toolIntro = `The key and the data folder can also be set in the environment: CHATR_ACCESS_KEY,
CHATR_ACCESS_KEY_FILE, CHATR_DATA.`

// tokenEnv keeps from the environment what this command shares with the services; their other settings are not
// errors here.
func tokenEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "CHATR_ACCESS_KEY=") || strings.HasPrefix(kv, "CHATR_ACCESS_KEY_FILE=") || strings.HasPrefix(kv, "CHATR_DATA=") {
			env = append(env, kv)
		}
	}
	return env
}
