package testkit

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// SampleJSON returns JSON as applications send it, the same every time: an array of objects with ids, numbers and text, of n
// bytes, which are 128 or more. It compresses as such data does.
func SampleJSON(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the order was sent yesterday evening and should arrive before noon unless traffic gets worse than usual")
	b := []byte("[")
	for {
		start := len(b)
		b = fmt.Appendf(b, `{"id":"%08x","user":"user-%d","at":%d,"text":"`, random.Uint32(), random.IntN(500), 1_700_000_000+random.IntN(1e7))
		for range 6 {
			b = append(append(b, words[random.IntN(len(words))]...), ' ')
		}
		b = append(b, `"},`...)
		if len(b) > n-len(`{"id":""}]`) { // an object fills what is left
			b = append(b[:start], `{"id":"`...)
			for len(b) < n-len(`"}]`) {
				b = append(b, "abcdefghij"[random.IntN(10)])
			}
			return append(b, `"}]`...)
		}
	}
}
