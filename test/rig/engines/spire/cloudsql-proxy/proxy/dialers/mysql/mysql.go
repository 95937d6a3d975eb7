// Package mysql stands in for a dialer of Google's cloud: SPIRE imports it for what it registers, which SQLite has no use for.
// The module it is of brings a great many others that nothing else here needs.
package mysql
