package upstream

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
)

// maxCookies of one connection and handler; more are ignored, as are those longer than maxCookieBytes.
const (
	maxCookies     = 20
	maxCookieBytes = 4096
)

// cookieStore has the cookies that handlers have set for one connection. They go back with its later events, which lets a handler
// be sticky (event-handler.md section 4). It is safe for concurrent use, also under Session.mu; its zero value is empty.
type cookieStore struct {
	mu  sync.Mutex     // guards the following; nothing else is locked under it
	jar http.CookieJar // nil: there are no cookies, as for most connections
}

// hostCookies are the cookies that one host has set.
type hostCookies struct {
	URL  string         `json:"url"`
	List []*http.Cookie `json:"list"`
}

// keep stores the cookies of an answer. They go back to the host that set them, whatever their path.
func (s *cookieStore) keep(resp *http.Response) {
	cookies := resp.Cookies()
	if len(cookies) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jar == nil {
		s.jar = newJar()
	}
	for _, c := range cookies {
		c.Domain, c.Path = "", "/"
		if len(c.Name)+len(c.Value) > maxCookieBytes || len(s.jar.Cookies(resp.Request.URL)) >= maxCookies {
			continue
		}
		s.jar.SetCookies(resp.Request.URL, []*http.Cookie{c})
	}
}

// addTo adds the cookies of a request's host to it.
func (s *cookieStore) addTo(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jar == nil {
		return
	}
	for _, c := range s.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
}

// of returns the cookies of the hosts of urls.
func (s *cookieStore) of(urls []*url.URL) (all []hostCookies) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jar == nil {
		return nil
	}
	for _, u := range urls {
		if list := s.jar.Cookies(u); len(list) > 0 {
			all = append(all, hostCookies{u.String(), list})
		}
	}
	return all
}

// restore stores what of has returned in another process.
func (s *cookieStore) restore(all []hostCookies) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range all {
		if u, err := url.Parse(c.URL); err == nil {
			if s.jar == nil {
				s.jar = newJar()
			}
			s.jar.SetCookies(u, c.List)
		}
	}
}

func newJar() http.CookieJar {
	jar, _ := cookiejar.New(nil) // without options there is no error
	return jar
}
