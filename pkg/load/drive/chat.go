package drive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/load/truth"
	"github.com/chatr-dev/chatr/pkg/protocol"
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/pkg/wsclient"
)

// person is a guest of Chatr and does what the page does (docs/chat.md).
type person struct {
	http     *http.Client // has the session cookie
	endpoint string
	name     string
	signedIn bool
}

func newPerson(endpoint, name string, transport http.RoundTripper) *person {
	jar, _ := cookiejar.New(nil) // fails for no options that we give
	return &person{http: &http.Client{Jar: jar, Transport: transport, Timeout: dialTime}, endpoint: endpoint, name: name}
}

// negotiate signs the person in when that is due, and returns where to connect.
func (p *person) negotiate(ctx context.Context) (string, error) {
	if !p.signedIn {
		if _, err := p.post(ctx, "/.auth/login/guest", fmt.Sprintf(`{"name":%q}`, p.name)); err != nil {
			return "", err
		}
		p.signedIn = true
	}
	b, err := p.post(ctx, "/api/negotiate", "")
	if err != nil {
		return "", err
	}
	var answer struct{ URL string }
	if err := json.Unmarshal(b, &answer); err != nil || !strings.HasPrefix(answer.URL, "ws") {
		return "", errors.New("/api/negotiate answered without a URL; is this Chatr?")
	}
	return "http" + strings.TrimPrefix(answer.URL, "ws"), nil
}

func (p *person) post(ctx context.Context, path, body string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := p.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err == nil && answer.StatusCode != http.StatusOK {
		return nil, &refusal{answer.StatusCode, path}
	}
	return b, err
}

const (
	roomTries = 20 // for the limit of events per second
	roomPause = 500 * time.Millisecond
)

// openRooms lets one more guest create the chats.
func (r *run) openRooms(ctx context.Context) error {
	target, err := newPerson(r.scenario.Endpoints()[0], "Load", r.transport()).negotiate(ctx)
	if err != nil {
		return err
	}
	c, err := wsclient.Dial(ctx, target, wsclient.Options{Subprotocols: []string{protocol.NameJSON}, TLS: r.options.TLS, OnMessage: func(wsclient.Message) {}})
	if err != nil {
		return err
	}
	defer c.Drop()
	for i, id := range r.rooms {
		data := webpubsub.Data{Type: webpubsub.DataJSON, Bytes: fmt.Appendf(nil, `{"id":%q,"name":"Load %d"}`, id, i+1)}
		for try := 1; ; try++ {
			err := c.SendEvent(ctx, "createChat", data)
			if err == nil {
				break
			}
			var refused *wsclient.AckError
			if !errors.As(err, &refused) || try == roomTries {
				return err
			}
			r.sleep(ctx, roomPause)
		}
	}
	return nil
}

// transport is for HTTP calls. They are made as connections are: to the endpoint itself, past any proxy that the environment
// names, with the certificates that the run trusts.
func (r *run) transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy, t.MaxIdleConnsPerHost = nil, restInWork
	t.TLSClientConfig = r.options.TLS.Clone()
	return t
}

// NewRooms returns ids for n chats, which are never used twice.
func NewRooms(n int) []string {
	rooms := make([]string, n)
	for i := range rooms {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
		rooms[i] = fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	}
	return rooms
}

// online is in a person's first message: from then on everything works.
var online = []byte("userOnline")

func isOnline(payload []byte) bool { return bytes.Contains(payload, online) }

// event is a request for the chat rules.
func event(name string, kind webpubsub.DataType, data string) protocol.Request {
	r := protocol.Request{Kind: protocol.SendEvent, Event: name}
	r.SetData(webpubsub.Data{Type: kind, Bytes: []byte(data)})
	return r
}

func joinChat(room string) protocol.Request { return event("joinChat", webpubsub.DataText, room) }

func leaveChat(room string) protocol.Request {
	return event("leaveChat", webpubsub.DataJSON, fmt.Sprintf(`{"chatId":%q}`, room))
}

// line is what a person types.
func line(run truth.Run, stream *truth.Stream, number uint32, payload []byte) webpubsub.Data {
	return webpubsub.Data{Type: webpubsub.DataJSON, Bytes: fmt.Appendf(nil, `{"message":%q,"key":"%s-%d-%d"}`, payload, run[:], stream.ID, number)}
}
