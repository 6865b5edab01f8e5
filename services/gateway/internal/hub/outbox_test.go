package hub

import "testing"

// outboxRound fills an outbox and empties it.
func outboxRound(o *outbox, m *Message, buf []byte) []byte {
	for i := range 100 {
		o.add(item{m: m, seq: uint64(i)})
	}
	buf = o.nextBatch(buf[:0])
	o.drained = false
	return buf
}

func TestOutboxDoesNotAllocate(t *testing.T) {
	for name, codec := range eachCodec {
		o := &outbox{codec: codec, limit: maxWaiting}
		m := message("x", MessageOptions{})
		var buf []byte
		for range 10 { // its space finds its size
			buf = outboxRound(o, m, buf)
		}
		if n := testing.AllocsPerRun(100, func() { buf = outboxRound(o, m, buf) }); n != 0 {
			t.Errorf("%s: 100 messages through an outbox allocate %v times, want never", name, n)
		}
	}
}

func BenchmarkOutbox(b *testing.B) {
	for _, name := range []string{"json", "reliable json"} {
		b.Run(name, func(b *testing.B) {
			o := &outbox{codec: eachCodec[name], limit: maxWaiting}
			m := message("x", MessageOptions{})
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = outboxRound(o, m, buf)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100), "ns/message")
		})
	}
}
