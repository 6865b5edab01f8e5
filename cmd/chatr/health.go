package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthTime is how long a container check may take; orchestrators give up after a few seconds themselves.
const healthTime = 4 * time.Second

func runHealth(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return errors.New("usage: chatr health URL, such as http://127.0.0.1:9090/readyz")
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s: %s", args[0], res.Status, strings.TrimSpace(string(body)))
	}
	fmt.Fprintln(out, "ok")
	return nil
}
