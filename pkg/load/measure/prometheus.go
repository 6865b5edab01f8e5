package measure

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var scraping = &http.Client{Timeout: 5 * time.Second}

// maxMetrics bounds how much of an answer is read, in bytes.
const maxMetrics = 16 << 20

// Scrape reads the metrics at url in Prometheus' text form, adding up the series of each name. Buckets and
// quantiles are left out.
func Scrape(ctx context.Context, url string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("scrape %s: %w", url, err)
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	answer, err := scraping.Do(req)
	if err != nil {
		return nil, fmt.Errorf("scrape: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scrape %s: status %d", url, answer.StatusCode)
	}
	return parseMetrics(io.LimitReader(answer.Body, maxMetrics))
}

func parseMetrics(r io.Reader) (map[string]float64, error) {
	sums := map[string]float64{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		name, value, ok := splitMetric(line)
		if !ok || strings.HasSuffix(name, "_bucket") || strings.Contains(line, `quantile="`) {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			sums[name] += v
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return sums, nil
}

// splitMetric takes a line such as `name{label="a b"} 12 1700000000` apart.
func splitMetric(line string) (name, value string, ok bool) {
	if line == "" || line[0] == '#' {
		return "", "", false
	}
	rest := line
	if i := strings.IndexAny(line, "{ \t"); i > 0 {
		name, rest = line[:i], line[i:]
	}
	if strings.HasPrefix(rest, "{") {
		rest = rest[strings.LastIndexByte(rest, '}')+1:]
	}
	fields := strings.Fields(rest)
	if name == "" || len(fields) == 0 {
		return "", "", false
	}
	return name, fields[0], true
}
