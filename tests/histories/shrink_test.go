package histories

import "slices"

// tries is, of histories in one process, how often a smaller history is tried before it is believed to hold: what happens at the same instant may happen in
// either order.
const tries = 2

// shrink returns the smallest history it finds that fails, too, after at most budget runs. A smaller one that fails none of tries
// times holds. It drops outages, faults and steps, first many at a
// time, lets one process do, and lets one person do what two did.
func shrink(h History, budget, tries int, fails func(History) bool) History {
	try := func(smaller History) bool {
		for range tries {
			if budget--; budget < 0 {
				return false
			}
			if fails(smaller) {
				h = smaller
				return true
			}
		}
		return false
	}
	for changed := true; changed && budget > 0; {
		changed = false
		for i := len(h.Outages) - 1; i >= 0; i-- {
			smaller := h
			smaller.Outages = slices.Delete(slices.Clone(h.Outages), i, i+1)
			changed = try(smaller) || changed
		}
		for i := len(h.Faults) - 1; i >= 0; i-- {
			smaller := h
			smaller.Faults = slices.Delete(slices.Clone(h.Faults), i, i+1)
			changed = try(smaller) || changed
		}
		for size := max(1, len(h.Steps)/2); size >= 1; size /= 2 {
			for from := 0; from+size <= len(h.Steps); {
				smaller := h
				smaller.Steps = slices.Clone(h.Steps)
				for i := from; i < from+size && from+size < len(h.Steps); i++ { // the rest happens when it did
					smaller.Steps[from+size].After += h.Steps[i].After
				}
				smaller.Steps = slices.Delete(smaller.Steps, from, from+size)
				if !try(smaller) && !tryFaults(smaller, try) {
					from += size
					continue
				}
				changed = true
			}
		}
		if h.Processes > 1 {
			smaller := h
			smaller.Processes = 1
			changed = try(smaller) || changed
		}
		for from, to := range map[string]string{"ada2": "ada1", "bob2": "bob1", "bob1": "ada1", "eve1": "ada1"} {
			smaller := h
			smaller.Steps = slices.Clone(h.Steps)
			merged := false
			for i := range smaller.Steps {
				if smaller.Steps[i].By == from {
					smaller.Steps[i].By, merged = to, true
				}
			}
			if merged {
				changed = try(smaller) || changed
			}
		}
		for i := range h.Faults {
			if h.Faults[i].For > 0 {
				smaller := h
				smaller.Faults = slices.Clone(h.Faults)
				smaller.Faults[i].For /= 2
				changed = try(smaller) || changed
			}
		}
	}
	return h
}

// tryFaults tries a history with its faults at earlier calls, since with a step its calls have gone.
func tryFaults(h History, try func(History) bool) bool {
	if len(h.Faults) != 1 {
		return false
	}
	for _, back := range []int{5, 10, 15, 20, 25, 30, 40} {
		earlier := h
		earlier.Faults = slices.Clone(h.Faults)
		if earlier.Faults[0].Call -= back; earlier.Faults[0].Call < 1 {
			return false
		}
		if try(earlier) {
			return true
		}
	}
	return false
}
