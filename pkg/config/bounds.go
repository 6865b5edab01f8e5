package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// parse puts texts into v, as the declaration has it: one text, unless it is a list. It does not look at bounds.
func (s *Setting) parse(v reflect.Value, texts []string) error {
	one := strings.Join(texts, ",")
	switch s.Kind {
	case KindOther:
		return v.Addr().Interface().(Value).SetSetting(texts)
	case KindDuration:
		d, err := time.ParseDuration(one)
		if err != nil {
			return fmt.Errorf("%s is not a duration; write it like 30s or 5m", s.quote(one))
		}
		v.SetInt(int64(d))
	case KindString:
		v.SetString(one)
	case KindBoolean:
		b, ok := parseBool(one)
		if !ok {
			return fmt.Errorf("%s is not a boolean; write true or false", s.quote(one))
		}
		v.SetBool(b)
	case KindInteger:
		n, ok := parseInt(one, v.Type().Bits())
		if !ok {
			return fmt.Errorf("%s is not a whole number", s.quote(one))
		}
		v.SetInt(n)
	case KindList:
		list := reflect.MakeSlice(v.Type(), len(texts), len(texts))
		for i, text := range texts {
			list.Index(i).SetString(text)
		}
		v.Set(list)
	default:
		return fmt.Errorf("can only be set in the file")
	}
	return nil
}

// parseBool also reads what YAML 1.1 called booleans, which people still write.
func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "yes", "on":
		return true, true
	case "no", "off":
		return false, true
	}
	b, err := strconv.ParseBool(s)
	return b, err == nil
}

// parseInt also reads whole numbers that some tools write as 1e+06.
func parseInt(s string, bits int) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, bits); err == nil {
		return n, true
	}
	const exact = 1 << 53 // above it, not every whole number is a float
	f, err := strconv.ParseFloat(s, 64)
	n := int64(f)
	if err != nil || f < -exact || f > exact || float64(n) != f || bits < 64 && n>>(bits-1) != n>>63 {
		return 0, false
	}
	return n, true
}

// splitList cuts a text at its commas.
func splitList(text string) (list []string) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// quote is a value as errors repeat it.
func (s *Setting) quote(text string) string {
	if s.Secret {
		return "the value"
	}
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return strconv.Quote(text)
}

// check holds a value against its bounds. An error follows the setting's name: "is -1; it must be at least 1". Empty
// strings and lists are no values.
func (s *Setting) check(v reflect.Value) error {
	switch s.Kind {
	case KindInteger, KindDuration:
		return s.checkNumber(v.Int())
	case KindString:
		return s.checkText(v.String())
	case KindList:
		for i := range v.Len() {
			if err := s.checkText(v.Index(i).String()); err != nil {
				return &itemError{i, err}
			}
		}
	}
	return nil
}

// itemError is a problem with one item of a list.
type itemError struct {
	index int
	err   error
}

func (e *itemError) Error() string { return e.err.Error() }

func (s *Setting) checkNumber(n int64) error {
	low, high := s.bound(s.Min), s.bound(s.Max)
	if (low == nil || n >= *low) && (high == nil || n <= *high) {
		return nil
	}
	right := "at least " + s.Min
	if low == nil {
		right = "at most " + s.Max
	} else if high != nil {
		right = "from " + s.Min + " to " + s.Max
	}
	return fmt.Errorf("is %s; it must be %s", s.show(n), right)
}

func (s *Setting) show(n int64) string {
	if s.Kind == KindDuration {
		return time.Duration(n).String()
	}
	return strconv.FormatInt(n, 10)
}

// bound is a bound as a number; nil when there is none.
func (s *Setting) bound(text string) *int64 {
	if text == "" {
		return nil
	}
	if s.Kind == KindDuration {
		d, err := time.ParseDuration(text)
		if err != nil {
			panic(fmt.Sprintf("config: %s has the bound %q: %v", s.Path, text, err))
		}
		n := int64(d)
		return &n
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("config: %s has the bound %q: %v", s.Path, text, err))
	}
	return &n
}

func (s *Setting) checkText(text string) error {
	if len(s.OneOf) > 0 {
		return s.checkChoice(text)
	}
	if text == "" || s.Kind != KindString {
		return nil
	}
	n := utf8.RuneCountInString(text)
	if s.Unit == "bytes" {
		n = len(text)
	}
	if low := s.bound(s.Min); low != nil && int64(n) < *low {
		return fmt.Errorf("has %d %s; at least %d are needed", n, s.Unit, *low)
	}
	if high := s.bound(s.Max); high != nil && int64(n) > *high {
		return fmt.Errorf("has %d %s; at most %d are possible", n, s.Unit, *high)
	}
	return nil
}

func (s *Setting) checkChoice(text string) error {
	if text == "" && s.Kind == KindString {
		return nil
	}
	same := func(o string) bool { return o == text || s.AnyCase && strings.EqualFold(o, text) }
	choices := strings.Join(s.OneOf, ", ")
	switch {
	case slices.ContainsFunc(s.OneOf, same):
		return nil
	case s.Noun != "":
		return fmt.Errorf("%s is not a %s; use %s", s.quote(text), s.Noun, choices)
	}
	return fmt.Errorf("%s must be one of %s", s.quote(text), choices)
}

// Check holds the members of the struct that v points to against the bounds of their declarations, those within lists too,
// and calls report for each problem with the path of the setting, which begins with at, and a text that can follow
// the path and a colon.
func Check(v any, at string, report func(path string, err error)) {
	checkMembers(Describe(reflect.TypeOf(v)), reflect.ValueOf(v).Elem(), at, report)
}

func checkMembers(settings []Setting, v reflect.Value, at string, report func(string, error)) {
	for i := range settings {
		s := &settings[i]
		path := join(at, s.Name)
		value := v.FieldByIndex(s.index)
		switch s.Kind {
		case KindGroup:
			checkMembers(s.Members, value, path, report)
		case KindItems:
			for j := range value.Len() {
				checkMembers(s.Members, value.Index(j), fmt.Sprintf("%s[%d]", path, j), report)
			}
		default:
			err := s.check(value)
			if item, ok := err.(*itemError); ok {
				path, err = fmt.Sprintf("%s[%d]", path, item.index), item.err
			}
			if err != nil {
				report(path, err)
			}
		}
	}
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}
