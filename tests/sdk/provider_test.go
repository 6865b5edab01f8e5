package sdk_test

import (
	"fmt"
	"testing"

	"github.com/chatr-dev/chatr/pkg/tenant"
	"github.com/chatr-dev/chatr/pkg/testkit"
	"github.com/chatr-dev/chatr/tests/nodetest"
)

// An application without an access key: it signs in at a real OpenID Connect provider, and the official SDK uses the token
// for REST and to get tokens for its clients, on three gateways.
func TestOpenIDConnectProvider(t *testing.T) {
	nodetest.Install(t)
	port := testkit.FreePort(t)
	s := acrossGateways(t, testkit.Redis(t).URL, tenant.Tenant{Auth: tenant.Auth{OIDC: []tenant.OIDC{{
		Issuer: fmt.Sprintf("http://localhost:%d", port), Scopes: []string{"chat.send"},
	}}}})
	nodetest.Run(t, []string{
		"CHATR_HTTP=" + s.http,
		"CHATR_HTTPS=" + s.https,
		"NODE_EXTRA_CA_CERTS=" + s.authority,
		fmt.Sprintf("CHATR_ISSUER_PORT=%d", port),
	}, "provider.test.mjs")
}
