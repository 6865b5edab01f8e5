package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyBytes gives keys of 64 characters; JWT libraries ask for at least 32.
const keyBytes = 48

// keptKey returns the key kept in a file of the data folder, making it on first use.
func keptKey(folder, name string) (string, error) {
	path := filepath.Join(folder, name)
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(strings.TrimSpace(string(b))) >= 32:
		return strings.TrimSpace(string(b)), nil
	case err == nil:
		return "", fmt.Errorf("%s holds a key shorter than 32 characters; remove it to make a new one", path)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	key := base64.StdEncoding.EncodeToString(raw)
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep a key: %w", err)
	}
	return key, nil
}
