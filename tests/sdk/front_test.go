package sdk_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/nodetest"
)

// frontConfig is an application gateway as operators write one: it ends TLS, knows the service by an internal name and
// leaves out what does not answer.
const frontConfig = `daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log crit; # else tokens, which stand in addresses
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	upstream service {
		server %[2]s max_fails=1 fail_timeout=30s;
		server %[3]s;
		server %[4]s;
	}
	server {
		listen %[5]s ssl;
		server_name clients.localhost;
		ssl_certificate %[1]s/cert.pem;
		ssl_certificate_key %[1]s/key.pem;
		client_max_body_size 2m;
		location / {
			proxy_pass http://service;
			proxy_http_version 1.1;
			proxy_set_header Host service.internal;
			proxy_set_header X-Forwarded-Host $http_host;
			proxy_set_header X-Forwarded-Proto https;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection "upgrade";
			proxy_next_upstream error timeout;
		}
	}
}
`

// Behind an application gateway: clients and applications know other names than the service has, the proxy
// rewrites the host, ends TLS, and finds a dead node among its servers. The service trusts it for where requests come from.
func TestBehindAnApplicationGateway(t *testing.T) {
	nodetest.Install(t)
	folder, redis := t.TempDir(), testkit.Redis(t)
	address := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	public := "https://localhost:" + address[strings.IndexByte(address, ':')+1:]
	tenants, err := tenant.NewStatic(
		tenant.Tenant{
			Name: "default", Hosts: []string{"service.internal"}, Keys: tenant.Keys{Primary: clusterKey},
			AcceptedHosts: []string{"https://service.internal", public}, PublicURL: public,
			NetworkACLs: tenant.Network{PublicNetwork: tenant.RequestRule{Deny: []string{"RESTAPI"}},
				PrivateEndpoints: []tenant.PrivateEndpoint{
					{Name: "applications", Ranges: []string{"127.0.0.1"}, RequestRule: tenant.RequestRule{Allow: []string{"RESTAPI"}}},
					{Name: "blocked", Ranges: []string{"127.0.0.9"}, RequestRule: tenant.RequestRule{Deny: []string{"RESTAPI", "ClientConnection"}}},
				}}},
		tenant.Tenant{Name: "other", Hosts: []string{"localhost"}, Keys: tenant.Keys{Primary: "the key of another tenant, long enough"}})
	if err != nil {
		t.Fatal(err)
	}
	servers := []any{folder, fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))} // where nobody listens
	for range 2 {
		node := httptest.NewServer(startGateway(t, redis.URL, tenants, netip.MustParsePrefix("127.0.0.1/32")))
		t.Cleanup(node.Close)
		servers = append(servers, strings.TrimPrefix(node.URL, "http://"))
	}
	authority := writeCertificate(t, folder)
	startNginx(t, folder, fmt.Sprintf(frontConfig, append(servers, address)...), address)
	nodetest.Run(t, []string{
		"CHATR_HTTP=Endpoint=https://service.internal;AccessKey=" + clusterKey + ";Version=1.0;",
		"CHATR_HTTPS=Endpoint=" + public + ";AccessKey=" + clusterKey + ";Version=1.0;",
		"CHATR_PUBLIC=" + public,
		"NODE_EXTRA_CA_CERTS=" + authority,
	}, "front.test.mjs")
}

// writeCertificate makes key.pem and cert.pem for localhost in folder and returns the path of what to trust.
func writeCertificate(t *testing.T, folder string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "cert.pem")
}

// startNginx runs nginx until the end of the test and returns when it answers.
func startNginx(t *testing.T, folder, config, address string) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx" // where Debian has it, which is not in everybody's PATH
	}
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command(path, "-c", file, "-p", folder, "-e", filepath.Join(folder, "error.log"))
	var printed strings.Builder
	nginx.Stdout, nginx.Stderr = &printed, &printed
	if err := nginx.Start(); err != nil {
		t.Fatalf("%v; scripts/setup installs what the tests need", err)
	}
	t.Cleanup(func() {
		_ = nginx.Process.Signal(os.Interrupt)
		_ = nginx.Wait()
		if t.Failed() {
			errors, _ := os.ReadFile(filepath.Join(folder, "error.log"))
			t.Logf("nginx: %s%s", printed.String(), errors)
		}
	})
	testkit.Eventually(t, 10*time.Second, func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, "nginx listens")
}
