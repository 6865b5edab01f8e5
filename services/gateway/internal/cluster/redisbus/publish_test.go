package redisbus

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	at := time.Now()
	p := pace{begun: at}
	now := at.Add(100 * time.Microsecond)
	if got := p.rest(1, now); got != 0 {
		t.Errorf("who posts alone waits %v, want not at all", got)
	}
	p.note(1, 1) // who has heard has answered
	if got := p.rest(1, now); got != 0 {
		t.Errorf("an answer waits %v, want not at all", got)
	}
	p.note(1, 2) // others have come meanwhile
	if got, want := p.rest(1, now), apart-100*time.Microsecond; got != want {
		t.Errorf("in company got a rest of %v, want %v", got, want)
	}
	if got := p.rest(maxPipeline, now); got != 0 {
		t.Errorf("a full pipeline waits %v, want not at all", got)
	}
	if got := p.rest(1, at.Add(time.Second)); got > 0 {
		t.Errorf("long after the last pipeline got a rest of %v, want none", got)
	}
	p.note(0, 0) // woken for nothing
	for range lastFew {
		if p.rest(1, now) == 0 {
			t.Fatal("company is forgotten too soon")
		}
		p.note(1, 0)
	}
	if got := p.rest(1, now); got != 0 {
		t.Errorf("alone again got a rest of %v, want none", got)
	}
	p.note(2, 0)
	if p.rest(1, now) == 0 {
		t.Error("two at once are no company")
	}
}
