/** The decision: `evaluate`, in Rego. */
export const DECISION = String.raw`# Written by Signet; do not edit. Ask for data.signet.decision; it is never undefined.
package signet

import data.signet.conditions
import data.signet.facts
import data.signet.policy

of(holds) := 2 if holds

else := 0

default decision := {
	"allowed": false,
	"decided_by": {"kind": "request"},
	"reason": "the request cannot be read",
	"audit": [],
}

decision := {
	"allowed": false,
	"decided_by": {"kind": "request"},
	"reason": sprintf("the request is refused: %s", [concat("; ", facts.refused)]),
	"audit": [],
} if {
	count(facts.refused) > 0
}

decision := {
	"allowed": false,
	"decided_by": {"kind": "request"},
	"reason": "the target is not in this bundle",
	"audit": [],
} if {
	count(facts.refused) == 0
	not profile
}

decision := {
	"allowed": enforced.effect == "Allow",
	"decided_by": decided_by(enforced),
	"reason": reason(enforced),
	"audit": audit,
} if {
	count(facts.refused) == 0
	enforced
}

allowed := decision.allowed

profile := policy.profiles[policy.targets[facts.target_name].profile]

enforced := decide(profile.enforced)

audit := [finding |
	some alone in profile.audited
	outcome := decide(alone.decider)
	outcome.stage < 7
	finding := over_rule(outcome, {
		"policy": ref_of(alone.policy),
		"wouldHave": outcome.effect,
		"changesAnswer": changes_answer(outcome),
	})
]

over_rule(outcome, finding) := object.union(finding, {"rule": policy.rules[outcome.rule].name}) if outcome.rule

else := finding

changes_answer(outcome) if {
	outcome.stage < enforced.stage
	outcome.effect != enforced.effect
}

else := false

ref_of(index) := object.filter(policy.policies[index], {"kind", "namespace", "name"})

name_of(index) := policy.policies[index].name if policy.policies[index].namespace == ""

else := sprintf("%s/%s", [policy.policies[index].namespace, policy.policies[index].name])

decided_by(outcome) := {
	"kind": "rule",
	"policy": ref_of(policy.rules[outcome.rule].policy),
	"tier": policy.policies[policy.rules[outcome.rule].policy].tier,
	"rule": policy.rules[outcome.rule].name,
} if {
	outcome.rule
}

else := {
	"kind": "policy",
	"policy": ref_of(outcome.policy),
	"tier": policy.policies[outcome.policy].tier,
	"why": outcome.why,
} if {
	outcome.policy
}

else := {"kind": "default"}

reason(outcome) := sprintf("rule %s of %s says %s", [
	policy.rules[outcome.rule].name,
	name_of(policy.rules[outcome.rule].policy),
	outcome.effect,
]) if {
	outcome.rule
}

else := sprintf("no rule allows it, and %s closes the target", [name_of(outcome.policy)]) if outcome.why == "closed"

else := sprintf("%s could not be compiled, so it denies", [name_of(outcome.policy)]) if outcome.why == "broken"

else := sprintf("no policy speaks of it; the default is %s", [outcome.effect])

# The order of the decision; the first stage that has something to say decides.
decide(decider) := denied_by(0, "broken", claim(decider.broken.Admin)) if claim(decider.broken.Admin)

else := ruled(0, "Deny", first(decider.adminDeny, "Deny")) if first(decider.adminDeny, "Deny")

else := denied_by(1, "broken", claim(decider.broken.Namespaced)) if claim(decider.broken.Namespaced)

else := ruled(1, "Deny", first(decider.deny, "Deny")) if first(decider.deny, "Deny")

else := ruled(2, "Allow", first(decider.allow, "Allow")) if first(decider.allow, "Allow")

else := denied_by(3, "closed", claim(decider.closing.Namespaced)) if claim(decider.closing.Namespaced)

else := denied_by(4, "broken", claim(decider.broken.Baseline)) if claim(decider.broken.Baseline)

else := ruled(4, "Deny", first(decider.baselineDeny, "Deny")) if first(decider.baselineDeny, "Deny")

else := ruled(5, "Allow", first(decider.baselineAllow, "Allow")) if first(decider.baselineAllow, "Allow")

else := denied_by(6, "closed", claim(decider.closing.Admin)) if claim(decider.closing.Admin)

else := denied_by(6, "closed", claim(decider.closing.Baseline)) if claim(decider.closing.Baseline)

else := {"stage": 7, "effect": policy.config.defaultAction}

denied_by(stage, why, index) := {"stage": stage, "effect": "Deny", "policy": index, "why": why}

ruled(stage, effect, rule) := {"stage": stage, "effect": effect, "rule": rule}

# The first policy that speaks for the port.
claim(policies) := min([index | some index in policies; ports_match(policy.policies[index]) > 0])

# The first rule that holds. Each entry is a rule and one of its sources, found under the caller's own name.
first(index, effect) := min([entry[0] | some entry in candidates(index); holds(entry, effect)])

candidates(index) := array.concat(index.anyone, known_candidates(index))

known_candidates(index) := array.concat(
	array.concat(index.authenticated, object.get(index.byUri, facts.source.id, [])),
	array.concat(
		object.get(index.byTrustDomain, facts.source.trustDomain, []),
		object.get(index.byNamespace, namespace_key, []),
	),
) if {
	facts.source
}

else := []

namespace_key := sprintf("%s/%s", [facts.source.trustDomain, facts.source_namespace])

default namespace_key := ""

enough := {"Allow": 2, "Deny": 1}

holds([number, at], effect) if {
	least := enough[effect]
	rule := policy.rules[number]
	in_validity(policy.policies[rule.policy])
	ports_match(policy.policies[rule.policy]) >= least
	source_match(rule.from[at]) >= least
	operations_match(rule) >= least
	rule_conditions(rule) >= least
}

rule_conditions(rule) := conditions.conditions_match(rule.when) if rule.when

else := 2

in_validity(said) if {
	facts.now >= object.get(said, "from", facts.now)
	facts.now < object.get(said, "until", facts.now + 1)
}

ports_match(said) := 2 if not said.ports

else := 1 if not facts.port

else := of(facts.port in said.ports)

# Sources: that one of the principals matches is known by where the entry was found.

source_match(source) := min([addresses_match(source), 2 - exceptions_match(source)])

addresses_match(said) := 2 if not said.ipBlocks

else := of(is_in_blocks(said.ipBlocks)) if is_address

else := 1

is_address if net.cidr_contains("0.0.0.0/0", facts.source_ip)

is_address if net.cidr_contains("::/0", facts.source_ip)

default is_in_blocks(_) := false

is_in_blocks(blocks) if {
	some block in blocks
	net.cidr_contains(block, facts.source_ip)
}

exceptions_match(source) := 0 if count(source.except) == 0

else := max([exception_match(one) | some one in source.except])

exception_match(one) := addresses_match(one) if {
	some principal in one.any
	is_principal(principal)
}

else := 0

is_principal(principal) if principal.anyone

is_principal(principal) if {
	principal.authenticated
	facts.source
}

is_principal(principal) if facts.source.id in principal.ids

is_principal(principal) if {
	principal.trustDomain == facts.source.trustDomain
	not principal.namespace
}

is_principal(principal) if {
	principal.trustDomain == facts.source.trustDomain
	principal.namespace == facts.source_namespace
}

# Operations.

operations_match(rule) := 2 if not rule.to

else := 0 if count(rule.to) == 0

else := max([operation_match(operation) | some operation in rule.to])

operation_match(operation) := min([of(is_asked(operation)), grant_match(operation)]) if {
	operation.kind == "action"
	facts.application
}

else := min([
	methods_match(operation),
	paths_match(operation),
	ports_match(operation),
	hosts_match(operation),
	headers_match(operation),
	parameters_match(operation),
	grant_match(operation),
]) if {
	operation.kind == "network"
	not facts.application
}

else := 0 if {
	operation.kind == "network"
	facts.application
}

else := 0 if {
	operation.kind == "action"
	not facts.application
}

else := 1

default is_asked(_) := false

is_asked(operation) if {
	is_action(operation)
	is_resource(operation)
}

is_action(operation) if not operation.actions

is_action(operation) if facts.application.action.name in operation.actions

is_resource(operation) if not operation.resources

is_resource(operation) if {
	some resource in operation.resources
	resource.type == facts.application.resource.type
	is_id(resource)
}

is_id(resource) if not resource.ids

is_id(resource) if facts.application.resource.id in resource.ids

grant_match(operation) := 2 if not operation.claim

else := conditions.claim_match(operation.claim)

methods_match(operation) := 2 if not operation.methods

else := 1 if not facts.http

else := of(facts.http.method in operation.methods)

hosts_match(operation) := 2 if not operation.hosts

else := 1 if not facts.http.host

else := of(is_host(operation.hosts))

default is_host(_) := false

is_host(hosts) if facts.http.host in hosts

is_host(hosts) if {
	some pattern in hosts
	startswith(pattern, "*.")
	suffix := substring(pattern, 1, -1)
	endswith(facts.http.host, suffix)
	facts.http.host != suffix
}

paths_match(operation) := 2 if not operation.paths

else := 1 if not facts.http

else := of(is_path(operation.paths))

default is_path(_) := false

is_path(patterns) if {
	some pattern in patterns
	is_under(pattern)
}

is_under(pattern) if pattern.exact == facts.http.path

is_under(pattern) if pattern.prefix == "/"

is_under(pattern) if pattern.prefix == facts.http.path

is_under(pattern) if startswith(facts.http.path, concat("", [pattern.prefix, "/"]))

is_under(pattern) if regex.match(pattern.regex, facts.http.path)

headers_match(operation) := 2 if not operation.headers

else := min([header_match(one) | some one in operation.headers]) if is_object(facts.asked_http.headers)

else := 1

header_match(one) := value_match(one, is_header(one), header_in(one))

default is_header(_) := false

is_header(one) if one.name in object.keys(facts.asked_http.headers)

header_in(one) := 0 if not is_header(one)

else := 1 if not is_string(facts.asked_http.headers[one.name])

else := 2 if facts.asked_http.headers[one.name] in one.values

else := 1 if {
	some member in split(facts.asked_http.headers[one.name], ",")
	trim_space(member) in one.values
	contains(facts.asked_http.headers[one.name], ",")
}

else := 0

value_match(one, there, found) := of(there) if one.operator == "Exists"

else := of(there == false) if one.operator == "DoesNotExist"

else := found if one.operator == "In"

else := 2 - found

parameters_match(operation) := 2 if not operation.query

else := 1 if not facts.http

else := 1 if not facts.query

else := min([parameter_match(one) | some one in operation.query])

parameter_match(one) := value_match(one, count(found) > 0, parameter_in(found, one.values)) if {
	found := [value | some [name, value] in facts.query; name == one.name]
}

parameter_in(found, values) := 0 if count([1 | some value in found; value in values]) == 0

else := 2 if {
	every value in found {
		value in values
	}
}

else := 1
`;
