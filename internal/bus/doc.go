// Package bus is how processes on several machines reach each other: NATS with JetStream, as a server within this
// program or one that is there already, with keys and TLS. Nothing else imports NATS. With the build tag nofarm it is
// empty.
package bus
