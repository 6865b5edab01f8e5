package topics

import (
	"github.com/chatr-dev/chatr/pkg/webpubsub"
	"github.com/chatr-dev/chatr/services/gateway/internal/cluster"
)

// OfConn returns the topics that a connection is on for all its life: that of its hub, and of its user if it has one.
func OfConn(h webpubsub.HubKey, userID string) []string {
	topics := []string{cluster.Topic(h, webpubsub.ScopeHub, "")}
	if userID != "" {
		topics = append(topics, cluster.Topic(h, webpubsub.ScopeUser, userID))
	}
	return topics
}

// OfGroups returns the topics of groups, in their order.
func OfGroups(h webpubsub.HubKey, groups []string) []string {
	topics := make([]string, len(groups))
	for i, g := range groups {
		topics[i] = cluster.Topic(h, webpubsub.ScopeGroup, g)
	}
	return topics
}
