package webpubsub

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestMetadataCheck(t *testing.T) {
	many := func(n, size int) (m Metadata) {
		for i := range n {
			m = append(m, Metadatum{fmt.Sprintf("%04d", i), strings.Repeat("v", size-4)})
		}
		return m
	}
	for name, tt := range map[string]struct {
		m         Metadata
		key, want string
	}{
		"none":              {nil, "", ""},
		"every character":   {Metadata{{"!#$%&'*+-.^_`|~09azAZ", " !~\t"}, {"empty", ""}}, "", ""},
		"as long as may be": {Metadata{{strings.Repeat("k", 256), strings.Repeat("v", 1024)}}, "", ""},
		"as many as may be": {many(8, 1024), "", ""},
		"short and many":    {many(2048, 4), "", ""},
		"one byte more":     {append(many(8, 1024), Metadatum{"k", ""}), "", "more than 8192 bytes"},
		"no key":            {Metadata{{"", "v"}}, "", "has 0 bytes"},
		"long key":          {Metadata{{strings.Repeat("k", 257), "v"}}, strings.Repeat("k", 257), "257 bytes; 1 to 256"},
		"key with a space":  {Metadata{{"a b", "v"}}, "a b", "is invalid"},
		"key with a colon":  {Metadata{{"a:b", "v"}}, "a:b", "is invalid"},
		"key not ASCII":     {Metadata{{"é", "v"}}, "é", "is invalid"},
		"Kelvin sign":       {Metadata{{"\u212a", "v"}}, "\u212a", "is invalid"},
		"key not UTF-8":     {Metadata{{"\xff", "v"}}, "\xff", "is invalid"},
		"long value":        {Metadata{{"k", strings.Repeat("v", 1025)}}, "k", "1025 bytes; at most 1024"},
		"value not ASCII":   {Metadata{{"k", "é"}}, "k", "printable ASCII"},
		"value with DEL":    {Metadata{{"k", "\x7f"}}, "k", "printable ASCII"},
		"another header":    {Metadata{{"k", "v\r\nce-userId: root"}}, "k", "printable ASCII"},
		"twice":             {Metadata{{"k", "1"}, {"l", "2"}, {"K", "3"}}, "K", "more than once"},
	} {
		err := tt.m.Check()
		var wrong *MetadataError
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: got %v, want nil", name, err)
		case tt.want != "" && (!errors.As(err, &wrong) || wrong.Key != tt.key || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q about key %q", name, err, tt.want, tt.key)
		}
	}
}
