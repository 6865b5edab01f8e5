package gateway

import (
	"crypto/sha1" //nolint:gosec // a thumbprint by definition
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// The connect event carries the certificate that a client shows, for the handler to judge.
//
// checklist:E05
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	heard := make(chan []byte, 10)
	s := start(t, withHandler(handler(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") == "connect" {
			body, _ := io.ReadAll(r.Body)
			heard <- body
		}
	})))
	secure := httptest.NewUnstartedServer(s.Handler())
	secure.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	secure.StartTLS()
	t.Cleanup(secure.Close)
	address := secure.URL + s.clientURL("ana", all)[len(s.url):]
	shown := secure.TLS.Certificates[0] // any will do
	client := secure.Client()
	for _, certificates := range [][]tls.Certificate{nil, {shown}} {
		trust := client.Transport.(*http.Transport).TLSClientConfig.Clone()
		trust.Certificates = certificates
		c, err := wsclient.Dial(within(t), address, wsclient.Options{TLS: trust})
		must(t, err)
		c.Drop()
		var got cloudevents.ConnectRequest
		must(t, json.Unmarshal(<-heard, &got))
		if len(got.ClientCertificates) != len(certificates) {
			t.Fatalf("got %d certificates, want %d", len(got.ClientCertificates), len(certificates))
		}
		for _, c := range got.ClientCertificates {
			sum := sha1.Sum(shown.Certificate[0]) //nolint:gosec // see above
			if want := strings.ToUpper(hex.EncodeToString(sum[:])); c.Thumbprint != want {
				t.Errorf("got thumbprint %s, want %s", c.Thumbprint, want)
			}
			if block, _ := pem.Decode([]byte(c.Content)); block == nil || string(block.Bytes) != string(shown.Certificate[0]) {
				t.Errorf("got content %q, want the certificate as PEM", c.Content)
			}
		}
	}
}
