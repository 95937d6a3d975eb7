/** What attributes are, and how conditions are met: `decisionAttributes` and `matchesConditions`, in Rego. */
export const CONDITIONS = String.raw`# Written by Signet; do not edit. The conditions of rules. 2 is yes, 1 is unknown, 0 is no.
package signet.conditions

import data.signet.facts

of(holds) := 2 if holds

else := 0

# What cannot be worked out is unknown, never left out.
conditions_match(when) := min(matches) if {
	matches := [condition_match(name, wanted) | some name, wanted in when]
	count(matches) == count(when)
}

else := 1

condition_match("token", wanted) := token_match(wanted)

condition_match("during", wanted) := max([window_match(window) | some window in wanted])

condition_match("outside", wanted) := 2 - max([window_match(window) | some window in wanted])

condition_match("targetLabels", wanted) := of(labels_match(wanted, target_labels))

condition_match("sourceLabels", wanted) := source_labels_match(wanted)

condition_match("sourcePosture", wanted) := posture_match(wanted)

condition_match("attributes", wanted) := min([attribute_match(one) | some one in wanted])

# Times.

weekday := {"Monday": 1, "Tuesday": 2, "Wednesday": 3, "Thursday": 4, "Friday": 5, "Saturday": 6, "Sunday": 7}

window_match(window) := of(is_open(window, day, (hour * 60) + minute)) if {
	[hour, minute, _] := time.clock([facts.now_ns, window.timeZone])
	day := weekday[time.weekday([facts.now_ns, window.timeZone])]
}

else := 1

default is_open(_, _, _) := false

is_open(window, day, minute) if {
	window.from < window.until
	minute >= window.from
	minute < window.until
	day in window.days
}

is_open(window, day, minute) if {
	window.from >= window.until
	minute >= window.from
	day in window.days
}

is_open(window, day, minute) if {
	window.from >= window.until
	minute < window.until
	((day + 5) % 7) + 1 in window.days
}

# Labels.

target_labels := data.signet.policy.targets[facts.target_name].labels

source_labels_match(wanted) := of(labels_match(wanted, facts.source_workload.labels)) if facts.source_workload

else := 1

default labels_match(_, _) := false

labels_match(wanted, labels) if {
	every one in wanted {
		label_matches(one, labels)
	}
}

label_matches(one, labels) if {
	one.kind == "in"
	labels[one.key] in one.values
}

label_matches(one, labels) if {
	one.kind == "notIn"
	not object.get(labels, one.key, null) in one.values
}

label_matches(one, labels) if {
	one.kind == "exists"
	one.key in object.keys(labels)
}

label_matches(one, labels) if {
	one.kind == "absent"
	not one.key in object.keys(labels)
}

# Posture.

posture_match(wanted) := 1 if not facts.source_workload

else := min([unprivileged_match(wanted), images_match(wanted)])

unprivileged_match(wanted) := 2 if not wanted.noPrivileged

else := 2 if facts.source_workload.privileged == false

else := 0 if facts.source_workload.privileged == true

else := 1

images_match(wanted) := 2 if {
	not wanted.imageDigests
	not wanted.allowedImages
}

else := 1 if not facts.source_workload.images

else := 1 if count(facts.source_workload.images) == 0

else := of(images_hold(wanted))

default images_hold(_) := false

images_hold(wanted) if {
	every image in facts.source_workload.images {
		image_holds(image, wanted)
	}
}

image_holds(image, wanted) if {
	has_digest(image, wanted)
	is_allowed(image, wanted)
}

has_digest(_, wanted) if not wanted.imageDigests

has_digest(image, _) if regex.match("@sha256:[0-9a-f]{64}$", image)

is_allowed(_, wanted) if not wanted.allowedImages

is_allowed(image, wanted) if {
	some allowed in wanted.allowedImages
	prefix := trim_right(allowed, "/")
	prefix != ""
	startswith(image, prefix)
	is_border(substring(image, count(prefix), -1), allowed == prefix)
}

is_border("", _)

is_border(rest, _) if startswith(rest, "/")

is_border(rest, true) if regex.match("^[:@][^/]*$", rest)

# Tokens.

token_match(wanted) := 0 if facts.no_token

else := 1 if not facts.claims

else := of(token_holds(wanted))

claim_match(claim) := 0 if facts.no_token

else := 1 if not facts.claims

else := of(claim_holds(claim))

default claim_holds(_) := false

claim_holds(claim) if {
	claim.operator == "Exists"
	value_at(facts.claims, claim.path) != null
}

claim_holds(claim) if {
	claim.operator == "DoesNotExist"
	value_at(facts.claims, claim.path) == null
}

claim_holds(claim) if {
	claim.operator == "In"
	some text in texts_of(value_at(facts.claims, claim.path))
	text in claim.values
}

claim_holds(claim) if {
	claim.operator == "NotIn"
	every text in texts_of(value_at(facts.claims, claim.path)) {
		not text in claim.values
	}
}

claim_holds(claim) if {
	claim.operator == "ContainsAll"
	texts := texts_of(value_at(facts.claims, claim.path))
	every value in claim.values {
		value in texts
	}
}

is_one_of(name, wanted) if {
	some text in texts_of(value_at(facts.claims, [name]))
	text in wanted
}

default token_holds(_) := false

token_holds(wanted) if {
	every name, values in object.get(wanted, "oneOf", {}) {
		is_one_of(name, values)
	}
	every method in object.get(wanted, "amr", []) {
		is_one_of("amr", [method])
	}
	every claim in object.get(wanted, "claims", []) {
		claim_holds(claim)
	}
	is_fresh(wanted)
}

is_fresh(wanted) if not wanted.maxAuthAge

is_fresh(wanted) if {
	is_number(facts.claims.auth_time)
	age := facts.now - (facts.claims.auth_time * 1000)
	age <= wanted.maxAuthAge
	age >= -60000
}

# Values.

value_at(root, path) := object.get(root, path, null)

# The text that policies compare with. Numbers that are written in more than 15 digits, or with an exponent, have none.
text_of(value) := value if is_string(value)

text_of(value) := sprintf("%v", [value]) if is_boolean(value)

text_of(value) := regex.replace(plain, "^-0$", "0") if {
	is_number(value)
	text := json.marshal(value)
	regex.match("^-?[0-9]{1,15}(\\.[0-9]{1,15})?$", text)
	count(text) <= 16
	plain := regex.replace(text, "(\\.[0-9]*[1-9])0+$|\\.0+$", "$1")
}

items_of(value) := value if is_array(value)

else := [value]

texts_of(value) := [text | some item in items_of(value); text := text_of(item)]

# Attributes: subject, resource, action and environment.

over(below, above) := object.union(object.remove(below, object.keys(above)), above)

known_claims := facts.claims

default known_claims := {}

asked_subject := facts.application.subject

properties_of(entity) := object.get(entity, "properties", {})

caller := {"id": asked_subject.id, "type": asked_subject.type} if asked_subject

else := {"id": known_claims.sub, "type": "user"} if is_string(known_claims.sub)

else := {"id": facts.source.id, "type": "workload"} if facts.source

account := matches[0] if {
	matches := regex.find_all_string_submatch_n("^/ns/([^/]+)/sa/([^/]+)$", facts.source.path, 1)
}

nothing := {
	"spiffeId": null,
	"trustDomain": null,
	"namespace": null,
	"serviceAccount": null,
	"labels": null,
	"id": null,
	"type": null,
}

sure contains ["spiffeId", facts.source.id]

sure contains ["trustDomain", facts.source.trustDomain]

sure contains ["namespace", account[1]]

sure contains ["serviceAccount", account[2]]

sure contains ["labels", facts.source_workload.labels]

sure contains ["id", caller.id]

sure contains ["type", caller.type]

subject_properties := properties_of(asked_subject)

default subject_properties := {}

subject := over(over(known_claims, subject_properties), over(nothing, {name: value | some [name, value] in sure}))

resource := over(properties_of(facts.application.resource), {
	"type": facts.application.resource.type,
	"id": facts.application.resource.id,
}) if {
	facts.application
}

else := over(workload, {"port": port | port := facts.port})

workload := {
	"type": "workload",
	"id": facts.target_name,
	"namespace": split(facts.target_name, "/")[0],
	"name": substring(facts.target_name, indexof(facts.target_name, "/") + 1, -1),
	"labels": target_labels,
}

action := over(properties_of(facts.application.action), {"name": facts.application.action.name}) if facts.application

else := over(facts.http, {"name": facts.http.method}) if facts.http

else := {}

instant := time.format([facts.now_ns, "UTC", "2006-01-02T15:04:05.000Z07:00"])

context := facts.application.context

default context := {}

environment := over(over({"time": instant}, {"ip": ip | ip := facts.source_ip}), context)

attributes := {"subject": subject, "resource": resource, "action": action, "environment": environment}

attribute_match(wanted) := of(value_at(attributes, wanted.path) != null) if wanted.operator == "Exists"

else := of(value_at(attributes, wanted.path) == null) if wanted.operator == "DoesNotExist"

else := 1 if value_at(attributes, wanted.path) == null

else := in_match(value_at(attributes, wanted.path), wanted.values) if wanted.operator == "In"

else := 2 - in_match(value_at(attributes, wanted.path), wanted.values) if wanted.operator == "NotIn"

else := match if match := compare(wanted.operator, text_of(value_at(attributes, wanted.path)), other_of(wanted))

else := 1

other_of(wanted) := wanted.values[0] if not wanted.other

other_of(wanted) := text_of(value_at(attributes, wanted.other)) if wanted.other

in_match(value, values) := 2 if {
	some text in texts_of(value)
	text in values
}

else := 1 if count(texts_of(value)) < count(items_of(value))

else := 0

compare("Equals", a, b) := of(a == b)

compare("NotEquals", a, b) := of(a != b)

compare("GreaterThan", a, b) := of(order(a, b) > 0)

compare("AtLeast", a, b) := of(order(a, b) >= 0)

compare("LessThan", a, b) := of(order(a, b) < 0)

compare("AtMost", a, b) := of(order(a, b) <= 0)

order(a, b) := to_number(a) - to_number(b) if {
	is_decimal(a)
	is_decimal(b)
}

else := instant_of(a) - instant_of(b)

is_decimal(text) if {
	regex.match("^-?[0-9]+(\\.[0-9]+)?$", text)
	count(text) <= 16
}

instant_of(text) := floor(time.parse_rfc3339_ns(text) / 1000000) if {
	regex.match("${instantPattern()}", text)
}
`;

/** An RFC 3339 instant. */
function instantPattern(): string {
  return String.raw`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`;
}
