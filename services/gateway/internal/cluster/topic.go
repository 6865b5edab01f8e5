package cluster

import (
	"strconv"

	"github.com/chatr-dev/chatr/pkg/webpubsub"
)

// Topic returns the topic of an audience: the inbox of the node that made a connection, else a topic of its own
// for each hub, group and user. It is unambiguous for any name: a tenant's length stands before it, and a hub has no
// slash. It is empty for a connection id that no node can have made.
func Topic(hub webpubsub.HubKey, scope webpubsub.Scope, name string) string {
	kind := "hub/"
	switch scope {
	case webpubsub.ScopeConnection:
		if len(name) <= NodeIDSize {
			return ""
		}
		return Inbox(name[:NodeIDSize])
	case webpubsub.ScopeGroup:
		kind = "group/"
	case webpubsub.ScopeUser:
		kind = "user/"
	}
	return kind + strconv.Itoa(len(hub.Tenant)) + "/" + hub.Tenant + "/" + hub.Hub + "/" + name
}

// OpenNodesTopic is a topic that every node subscribes to as long as connections can move to it, so that such nodes can be
// counted; nothing is published to it. A node gives it up when it begins to drain. One of version 0.1 keeps it until it has
// ended, so that it is counted while it drains; those in turn, who subtract themselves from the count, see that a newer node is
// not open any more. That is why the topic is the one of that version, and not a new one beside it.
const OpenNodesTopic = "nodes"

// KeepingTopic is a topic that every node subscribes to that publishes by PostKept, as long as it runs; nothing is published to it.
// Nodes of version 0.1 do not: what they publish is not kept.
const KeepingTopic = "keeping"

// HandedOverTopic returns the topic by which a connection is reached that the node that made it has handed over to another one.
// Only the node that has it subscribes to it.
func HandedOverTopic(hub webpubsub.HubKey, connID string) string {
	return "moved/" + strconv.Itoa(len(hub.Tenant)) + "/" + hub.Tenant + "/" + hub.Hub + "/" + connID
}

// TraceTopic returns the topic of the live trace of a tenant. A node subscribes to it while an operator watches the trace there.
func TraceTopic(tenant string) string { return "trace/" + tenant }

// StateTopic returns the topic of a group's state: what connections say of themselves in the group. A node subscribes to it that
// has a connection with state in the group, or one that is subscribed to the state.
func StateTopic(hub webpubsub.HubKey, group string) string {
	return "state/" + strconv.Itoa(len(hub.Tenant)) + "/" + hub.Tenant + "/" + hub.Hub + "/" + group
}
