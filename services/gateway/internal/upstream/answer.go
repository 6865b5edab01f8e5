package upstream

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // a thumbprint by definition
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/chatr-dev/chatr/pkg/cloudevents"
	"github.com/chatr-dev/chatr/pkg/httpx"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// claimNameIdentifier is a second name under which recorded connect events carry sub (event-handler.md section 5.1).
const claimNameIdentifier = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"

// connectRequest returns the body of a connect event (event-handler.md section 5.1).
func connectRequest(r *http.Request, claims map[string][]string, offered []string) cloudevents.ConnectRequest {
	if sub, ok := claims["sub"]; ok {
		all := map[string][]string{claimNameIdentifier: sub}
		for name, values := range claims {
			all[name] = values
		}
		claims = all
	}
	return cloudevents.ConnectRequest{
		Claims: claims, Query: queryWithoutToken(r), Headers: headersWithoutSecrets(r),
		Subprotocols: offered, ClientCertificates: certificates(r),
	}
}

// certificates returns what connect says about the client's certificates.
func certificates(r *http.Request) []cloudevents.Certificate {
	if r.TLS == nil {
		return nil
	}
	var all []cloudevents.Certificate
	for _, c := range r.TLS.PeerCertificates {
		sum := sha1.Sum(c.Raw) //nolint:gosec // see above
		content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		all = append(all, cloudevents.Certificate{Thumbprint: strings.ToUpper(hex.EncodeToString(sum[:])), Content: string(content)})
	}
	return all
}

// accepted reads an answer to connect (event-handler.md section 5.2). Its content type does not matter.
func (a answer) accepted() (Accepted, *Failure) {
	var body cloudevents.ConnectResponse
	if len(bytes.TrimSpace(a.body)) > 0 {
		if err := json.Unmarshal(a.body, &body); err != nil {
			return Accepted{}, unusable("the answer to connect is not the JSON it should be: %w", errKind(err))
		}
	}
	for _, group := range body.Groups {
		if err := webpubsub.CheckGroup(group); err != nil {
			return Accepted{}, unusable("the answer to connect: %w", err)
		}
	}
	if !fitsHeader(body.Subprotocol) { // else no later event of the connection could be sent
		return Accepted{}, unusable("the answer to connect has a subprotocol with control characters")
	}
	accepted := Accepted{Handled: true, UserID: body.UserID, Roles: body.Roles, Subprotocol: strings.TrimSpace(body.Subprotocol)}
	if len(body.Groups) > 0 {
		accepted.Groups = body.Groups
	}
	return accepted, nil
}

// errKind keeps of a JSON error what does not repeat the text.
func errKind(err error) error {
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		return errors.New("wrong type of member " + wrong.Field)
	}
	return errors.New("malformed")
}

// data reads an answer to a user event (event-handler.md section 6.2); nil means that nothing is to be sent. Metadata alone make a
// message of empty text. ancestor says that it answers an event of the ancestor protocol.
func (a answer) data(ancestor bool) (*webpubsub.Data, *Failure) {
	var d *webpubsub.Data
	if len(a.body) > 0 {
		t, failure := a.dataType(ancestor)
		if failure != nil {
			return nil, failure
		}
		d = &webpubsub.Data{Type: t, Bytes: a.body}
	}
	if m := httpx.Metadata(a.header); len(m) > 0 {
		if err := m.Check(); err != nil {
			return nil, unusable("the answer: %w", err)
		}
		if d == nil {
			d = &webpubsub.Data{Type: webpubsub.DataText}
		}
		d.Metadata = m
	}
	return d, nil
}

// dataType returns the type of data that the answer's content type stands for (event-handler.md section 6.2), if the body is that.
func (a answer) dataType(ancestor bool) (webpubsub.DataType, *Failure) {
	if ancestor {
		return frameType(a), nil
	}
	if a.contentType == "" {
		return webpubsub.DataBinary, nil
	}
	media, _, err := mime.ParseMediaType(a.contentType)
	if err != nil {
		return 0, unusable("the answer's content type is malformed")
	}
	switch media {
	case cloudevents.TypeText:
		if !utf8.Valid(a.body) {
			return 0, unusable("the answer's text is not UTF-8")
		}
		return webpubsub.DataText, nil
	case cloudevents.TypeJSON:
		if err := protocol.CheckJSON(a.body); err != nil {
			return 0, unusable("the answer is %v", err)
		}
		return webpubsub.DataJSON, nil
	case cloudevents.TypeBinary:
		return webpubsub.DataBinary, nil
	case cloudevents.TypeProtobuf:
		return webpubsub.DataProtobuf, nil
	}
	return 0, unusable("the answer's content type must be one of %s, %s, %s, %s",
		cloudevents.TypeText, cloudevents.TypeJSON, cloudevents.TypeBinary, cloudevents.TypeProtobuf)
}

// setState sets the connection state that an answer's header ce-connectionState has (event-handler.md section 8): without the
// header nothing changes, an empty one clears the state.
func (s *Session) setState(a answer) *Failure {
	values := a.header.Values("ce-connectionState")
	switch {
	case len(values) == 0:
		return nil
	case len(values) > 1:
		return unusable("the answer has ce-connectionState %d times", len(values))
	case len(values[0]) > cloudevents.MaxState:
		return unusable("the answer's ce-connectionState has %d bytes; at most %d are allowed", len(values[0]), cloudevents.MaxState)
	}
	s.mu.Lock()
	again := s.held && s.state != values[0]
	s.state = values[0]
	s.mu.Unlock()
	if again {
		s.hold(false)
	}
	return nil
}

// fitsHeader reports whether a header can carry s as it is.
func fitsHeader(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// refusedBecause says what the client gets when connect failed: what the handler answered, if that was an error, else
// 500 (event-handler.md section 5.3).
func refusedBecause(f *Failure) *Refused {
	r := &Refused{Status: f.Status, cause: f}
	refused := f.Status >= 400 && f.Status <= 599
	if !refused {
		r.Status = http.StatusInternalServerError
	}
	media, _, err := mime.ParseMediaType(f.ContentType)
	switch {
	case refused && len(f.Body) > 0 && (f.ContentType == "" || err == nil && slices.Contains(forwardedTypes, media)) && utf8.Valid(f.Body):
		r.ContentType, r.Body = f.ContentType, f.Body
	case refused:
		r.Body = []byte("the event handler refused the connection\n")
	default:
		r.Body = []byte("the event handler could not be asked, or its answer could not be used\n")
	}
	if r.ContentType == "" {
		r.ContentType = "text/plain; charset=utf-8"
	}
	return r
}

// forwardedTypes are the content types of a refusal that clients get to see. A page is not among them: it would run
// under the name of this service.
var forwardedTypes = []string{cloudevents.TypeText, cloudevents.TypeJSON, "application/problem+json"}
