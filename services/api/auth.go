package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/chatr-dev/chatr/pkg/chat"
	"github.com/chatr-dev/chatr/pkg/httpx"
)

// provider is a way to sign in. begin answers GET /.auth/login/{name}.
type provider struct {
	name  string
	begin http.HandlerFunc
}

// configured returns the ways to sign in that this deployment offers.
func (s *Service) configured() []provider {
	var list []provider
	if !s.cfg.NoGuests {
		list = append(list, provider{"guest", s.guestNeedsName})
	}
	return list
}

// providers returns their names.
func (s *Service) providers() []string {
	names := []string{}
	for _, p := range s.configured() {
		names = append(names, p.name)
	}
	return names
}

// principal is a signed-in user in the form of Static Web Apps.
type principal struct {
	IdentityProvider string   `json:"identityProvider"`
	UserID           string   `json:"userId"`
	UserDetails      string   `json:"userDetails"`
	UserRoles        []string `json:"userRoles"`
	Claims           []string `json:"claims"`
}

func writePrincipal(w http.ResponseWriter, p *principal) {
	w.Header().Set("Cache-Control", "no-store")
	httpx.WriteJSON(w, http.StatusOK, map[string]*principal{"clientPrincipal": p})
}

func asPrincipal(u chat.User) *principal {
	return &principal{u.Provider, u.ID, u.Name, []string{"anonymous", "authenticated"}, []string{}}
}

// me answers with the user who is signed in; to be signed out is no error.
func (s *Service) me(w http.ResponseWriter, r *http.Request) {
	user, err := s.signedIn(r)
	switch {
	case errors.Is(err, errSignedOut):
		writePrincipal(w, nil)
	case err != nil:
		s.fail(w, r, err)
	default:
		writePrincipal(w, asPrincipal(user.User))
	}
}

// login starts signing in with a provider.
func (s *Service) login(w http.ResponseWriter, r *http.Request) {
	list := s.configured()
	i := slices.IndexFunc(list, func(p provider) bool { return p.name == r.PathValue("provider") })
	if i < 0 {
		problem(w, r, http.StatusNotFound, "this way to sign in is not set up here; available: "+strings.Join(s.providers(), ", "))
		return
	}
	list[i].begin(w, r)
}

func (s *Service) guestNeedsName(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", http.MethodPost)
	problem(w, r, http.StatusMethodNotAllowed, `a guest signs in by POST with a name: {"name": "Ada"}`)
}

// loginGuest signs in somebody who only gives a name. The id is ours and random: two guests of one name are two
// people, and nobody can compute another's id.
func (s *Service) loginGuest(w http.ResponseWriter, r *http.Request) {
	if s.cfg.NoGuests {
		problem(w, r, http.StatusNotFound, "guests are not allowed here")
		return
	}
	if ok, wait := s.guests.Allow(s.clientAddress(r)); !ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		problem(w, r, http.StatusTooManyRequests, "too many guests have signed in from your address; try again in a moment")
		return
	}
	given, isForm, err := guestName(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	name, err := chat.CheckName(given)
	if err != nil {
		problem(w, r, http.StatusBadRequest, err.Error())
		return
	}
	user := chat.User{ID: "guest_" + strings.ToLower(rand.Text()), Name: name, Provider: "guest"}
	if err := s.store.SaveUser(r.Context(), s.cfg.Tenant, user); err != nil {
		s.fail(w, r, fmt.Errorf("save guest: %w", err))
		return
	}
	s.begin(w, r, user.ID)
	if isForm {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	writePrincipal(w, asPrincipal(user))
}

// guestName reads the name from a JSON body or a form.
func guestName(w http.ResponseWriter, r *http.Request) (name string, isForm bool, err error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/x-www-form-urlencoded" {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if r.ParseForm() != nil {
			return "", true, &httpx.BodyError{Status: http.StatusBadRequest, Text: "the form could not be read"}
		}
		return r.PostForm.Get("name"), true, nil
	}
	var in struct {
		Name string `json:"name"`
	}
	err = httpx.ReadJSON(w, r, maxBody, &in)
	return in.Name, false, err
}

// logout ends all sessions of the user and closes the user's sockets. Copies of the cookie and tokens for sockets that
// were given out before are no longer valid (security fault 42). It is a GET because links of the original are; a link on another site does not sign anybody out.
func (s *Service) logout(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" {
		problem(w, r, http.StatusForbidden, "this request came from another site")
		return
	}
	if user, err := s.signedIn(r); err == nil {
		if err := s.store.SignOut(r.Context(), s.cfg.Tenant, user.ID); err != nil {
			s.fail(w, r, err) // otherwise the page would say that it has happened
			return
		}
		if err := s.gateway.CloseUser(r.Context(), user.ID, "signed out"); err != nil {
			s.logger.Warn("sockets of a signed-out user not closed", "user", user.ID, "error", err)
		}
	}
	s.end(w, r)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, localPath(httpx.ParseQuery(r.URL.RawQuery).Get("post_logout_redirect_uri")), http.StatusFound)
}

// localPath returns target if it leads to a path of this site, else the sign-in page. Browsers read a backslash
// as a slash and skip control characters, so "/\evil.example" would lead away.
func localPath(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") ||
		strings.ContainsFunc(target, func(c rune) bool { return c == '\\' || c < ' ' || c == 0x7f }) {
		return "/login.html"
	}
	return target
}
