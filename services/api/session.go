package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/chatr-dev/chatr/pkg/chat"
)

// cookieName returns what the session's cookie is called. Over https the name has a prefix that browsers give
// meaning to: no other host and no http page can have set it. Over http it must be another name, since browsers
// keep an http page from replacing a cookie that https has set.
func (s *Service) cookieName(r *http.Request) string {
	if s.https(r) {
		return "__Host-chatr_session"
	}
	return "chatr_session"
}

// session is what a cookie says: who signed in, and until when that counts. It is signed, not secret.
type session struct {
	Tenant  string `json:"t"`
	UserID  string `json:"u"`
	Issued  int64  `json:"i"` // Unix seconds, as Expires
	Expires int64  `json:"e"`
}

// seal returns the session's cookie value: its JSON and a signature over it.
func (s *Service) seal(v session) string {
	payload, _ := json.Marshal(v)
	text := base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(s.sign(text))
}

// open returns the session that a cookie value holds, if we signed it and it has not expired.
func (s *Service) open(value string) (v session, ok bool) {
	text, signature, _ := strings.Cut(value, ".")
	given, err := base64.RawURLEncoding.Strict().DecodeString(signature)
	if err != nil || !hmac.Equal(given, s.sign(text)) {
		return v, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(payload, &v) != nil {
		return v, false
	}
	return v, v.Tenant == s.cfg.Tenant && v.UserID != "" && time.Now().Before(time.Unix(v.Expires, 0))
}

// sign tells sessions apart from anything else that the same key may sign one day.
func (s *Service) sign(text string) []byte {
	mac := hmac.New(sha256.New, []byte(s.cfg.SessionKey))
	mac.Write([]byte("chatr session 1\x00" + text))
	return mac.Sum(nil)
}

// begin signs a user in: the cookie is out of reach of scripts, and of other sites' requests but plain links.
func (s *Service) begin(w http.ResponseWriter, r *http.Request, userID string) {
	now := time.Now()
	v := session{Tenant: s.cfg.Tenant, UserID: userID, Issued: now.Unix(), Expires: now.Add(s.cfg.SessionTime).Unix()}
	s.setCookie(w, r, s.seal(v), int(s.cfg.SessionTime/time.Second))
}

// end removes the session's cookie.
func (s *Service) end(w http.ResponseWriter, r *http.Request) { s.setCookie(w, r, "", -1) }

func (s *Service) setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name:     s.cookieName(r),
		Value:    value,
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   s.https(r),
		SameSite: http.SameSiteLaxMode,
	})
}

// errSignedOut says that a request has no session, or a session that its user has ended, or that of a user who has been
// deleted.
var errSignedOut = errors.New("signed out")

// signedIn returns the user of the session.
func (s *Service) signedIn(r *http.Request) (chat.Person, error) {
	cookie, err := r.Cookie(s.cookieName(r))
	if err != nil {
		return chat.Person{}, errSignedOut
	}
	v, ok := s.open(cookie.Value)
	if !ok {
		return chat.Person{}, errSignedOut
	}
	person, err := s.store.Person(r.Context(), s.cfg.Tenant, v.UserID)
	switch {
	case errors.Is(err, chat.ErrNotFound):
		err = errSignedOut
	case err == nil && !person.SignedOut.IsZero() && v.Issued <= person.SignedOut.Unix():
		err = errSignedOut
	}
	return person, err
}
