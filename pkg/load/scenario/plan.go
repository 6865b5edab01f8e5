package scenario

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Plan says what each client of a run does.
type Plan struct {
	Clients []Client
	Groups  int
	Members [][]int // of each group, the clients in it

	seed  uint64
	sizes []weight
}

// Client is one connection of a plan.
type Client struct {
	Subprotocol Subprotocol
	Groups      []int
	Slow        bool
	Outside     bool // in no group, and there to publish
}

// NewPlan makes the plan of a valid scenario.
func NewPlan(s *Scenario) (*Plan, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	sizes, _ := weighted(s.Publish.Sizes) // validated
	p := &Plan{Groups: s.Groups.Count, Members: make([][]int, s.Groups.Count), seed: uint64(s.Seed), sizes: sizes}
	p.Clients = make([]Client, s.Connections, s.Connections+s.Publish.Outside)
	p.speak(s)
	p.slow(s)
	p.join(s)
	for range s.Publish.Outside {
		p.Clients = append(p.Clients, Client{Outside: true})
	}
	return p, nil
}

// Draws for different purposes come from different sequences, so that one more of this changes nothing of that.
const (
	drawSubprotocols = iota + 1
	drawSlow
	drawGroups
	DrawPublish
	DrawSizes
	DrawChurn
	DrawREST
	DrawUsers
	DrawEvents
	DrawStorm
	DrawIdle
)

// Draw returns the sequence of random numbers for a purpose.
func (p *Plan) Draw(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(p.seed, purpose)) }

// speak gives out subprotocols in exact shares, in random order.
func (p *Plan) speak(s *Scenario) {
	weights, _ := s.subprotocolWeights() // validated
	counts := shares(weights, len(p.Clients))
	i := 0
	for w, n := range counts {
		for range n {
			p.Clients[i].Subprotocol = Subprotocol(slices.Index(subprotocols, weights[w].value))
			i++
		}
	}
	p.Draw(drawSubprotocols).Shuffle(len(p.Clients), func(i, j int) {
		p.Clients[i].Subprotocol, p.Clients[j].Subprotocol = p.Clients[j].Subprotocol, p.Clients[i].Subprotocol
	})
}

func (p *Plan) slow(s *Scenario) {
	for _, i := range p.Draw(drawSlow).Perm(len(p.Clients))[:s.Slow.Connections] {
		p.Clients[i].Slow = true
	}
}

// join fills groups to exact sizes. Each round gives every client one more group, which a client that is in it
// already swaps with another's.
func (p *Plan) join(s *Scenario) {
	if s.Groups.Count == 0 {
		return
	}
	weights, _ := s.Groups.weights() // validated
	draw := p.Draw(drawGroups)
	for range s.Groups.PerConnection {
		var places []int
		for g, n := range shares(weights, len(p.Clients)) {
			for range n {
				places = append(places, g)
			}
		}
		draw.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
		for i := range p.Clients {
			c := &p.Clients[i]
			g := places[i]
			for slices.Contains(c.Groups, g) {
				g = (g + 1) % s.Groups.Count
			}
			c.Groups = append(c.Groups, g)
			p.Members[g] = append(p.Members[g], i)
		}
	}
}

// weights are the groups' shares of the connections.
func (g *Groups) weights() ([]weight, error) {
	kind, text, given := strings.Cut(g.Sizes, ":")
	number, err := strconv.ParseFloat(text, 64)
	if given && (err != nil || math.IsNaN(number)) {
		return nil, fmt.Errorf("%q has no number after the colon", g.Sizes)
	}
	all := make([]weight, g.Count)
	switch kind {
	case "even":
		for i := range all {
			all[i].share = 1
		}
	case "big":
		if !given || number <= 0 || number > 100 {
			return nil, fmt.Errorf("%q must be like big:60, with the percentage of connections in the big group", g.Sizes)
		}
		for i := range all {
			all[i].share = (100 - number) / float64(max(g.Count-1, 1))
		}
		all[0].share = number
	case "zipf":
		if !given {
			number = 1
		}
		if number <= 0 || number > 10 {
			return nil, fmt.Errorf("%q must be like zipf:1.1, with an exponent above 0 and up to 10", g.Sizes)
		}
		for i := range all {
			all[i].share = math.Pow(float64(i+1), -number)
		}
	default:
		return nil, errors.New(strconv.Quote(g.Sizes) + " is none of even, big:60, zipf:1.1")
	}
	return all, nil
}

// shares divides total by the weights into whole numbers that add up to it: the largest remainders are rounded up.
func shares(weights []weight, total int) []int {
	var sum float64
	for _, w := range weights {
		sum += w.share
	}
	counts := make([]int, len(weights))
	order := make([]int, len(weights))
	rest := make([]float64, len(weights))
	left := total
	for i, w := range weights {
		exact := w.share / sum * float64(total)
		counts[i] = int(exact)
		rest[i] = exact - float64(counts[i])
		order[i] = i
		left -= counts[i]
	}
	slices.SortStableFunc(order, func(a, b int) int { return -cmpFloat(rest[a], rest[b]) })
	for _, i := range order[:left] {
		counts[i]++
	}
	return counts
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Publishers lists who publishes to which group.
func (p *Plan) Publishers() []Publisher {
	var list []Publisher
	outside := 0
	for i, c := range p.Clients {
		if c.Outside {
			outside++
			for g := (outside - 1) % max(p.Groups, 1); g < p.Groups; g += p.outside() {
				list = append(list, Publisher{i, g})
			}
		}
	}
	if outside > 0 {
		return list
	}
	for i, c := range p.Clients {
		if c.Subprotocol == Simple || c.Slow {
			continue
		}
		for _, g := range c.Groups {
			list = append(list, Publisher{i, g})
		}
	}
	return list
}

func (p *Plan) outside() (n int) {
	for _, c := range p.Clients {
		if c.Outside {
			n++
		}
	}
	return max(n, 1)
}

// Publisher is a client that publishes to a group.
type Publisher struct{ Client, Group int }

// Sizes returns a function that draws payload sizes.
func (p *Plan) Sizes() func() int {
	draw := p.Draw(DrawSizes)
	sizes := make([]int, len(p.sizes))
	upTo := make([]float64, len(p.sizes))
	var sum float64
	for i, w := range p.sizes {
		sizes[i], _ = strconv.Atoi(w.value)
		sum += w.share
		upTo[i] = sum
	}
	return func() int {
		at := draw.Float64() * sum
		for i, u := range upTo {
			if at < u {
				return sizes[i]
			}
		}
		return sizes[len(sizes)-1]
	}
}
