import type { Test } from 'tap'
import { nameOf, type Step, type Told } from './step.ts'

interface Item { readonly status?: { readonly code?: number, readonly message?: string } }

/**
 * What of SPIRE's messages binds: what spire-surface quotes, and what the messages of one RPC begin with, which scripts match on. Ours on
 * purpose are the words of Go's libraries (asn1, x509, idna, net/url), of go-spiffe's parsers and of SQL, which name no rule or no value;
 * of certificate requests and algorithms, which programs make; of gRPC itself; and of an authority, which rule it broke.
 */
const quoted: readonly RegExp[] = [
  /authorization denied for method \S+/, /rate \(\d+\) exceeds burst size \(\d+\)/, /could not parse token/, /^agent not found$/,
  /malformed param: missing [\w -]+/, /could not find node attestor type/, /failed to attest: agent is banned/,
  /^ttl is required, you must provide one$/, /^no authorities to append$/, /^missing ID$/, /^entry not found$/,
  /^similar entry already exists$/,
  /failed to convert entry: (?:invalid parent ID|invalid spiffe ID|selector list is empty|invalid DNS name|invalid federated trust domain)/,
  /hint is too long, max length is 1024 characters/, /^WIT functionality is disabled$/, /^JWT functionality is disabled$/,
  /entry not found or not authorized/,
  /no relationship with trust domain "[\w.]+"/, /only Prepared authorities can be activated/, /unable to taint current local authority/,
  /invalid registration entry: \w+ is not set/, /unable to find federated bundle "spiffe:\/\/[\w.]+"/, /^OK$/,
  /^failed to \w+ entry: datastore-(?:sql|validation): /, /^failed to update entry$/, /^failed to create token: datastore-sql: /,
  /^(?:invalid agent ID|error getting node attestor|failed to attest|failed to parse selectors): /,
  /is not (?:a workload in|an agent in|a member of) trust domain "[\w.]+"(?:; path is [\w ]+)?/,
  /^invalid \w+ ID: request must specify SPIFFE ID$/,
  /^agent version is too long \(max 255 characters\)$/, /^rejecting request due to [\w ]+ rate limiting: /,
  /^(?:CSR URI SAN is invalid|CSR DNS name is invalid|invalid SPIFFE ID): /, /^CSR URI SAN is required$/, /^only one URI SAN is expected$/,
  /^CSR DNS name contains a wildcard that covers another non-wildcard name: /,
  /^trust domain argument is not valid: /, /^failed to parse trust domain: /, /^invalid JWT authority: /,
  /^failed to convert (?:bundle|federation relationship|X\.509 authority|JWT authority): /,
  /^\w+ a federated bundle for the server's own trust domain is not allowed$/, /^failed to parse deletion mode: unhandled delete mode "7"$/,
  /^unable to create federation relationship for server trust domain$/, /^federation relationship (?:does not exist|not found)$/,
  /^(?:invalid authority ID|provided subject key id is not valid|invalid subject key ID): /, /^failed to revoke (?:X\.509|JWT) authority: /,
  /^local authority can't be (?:tainted|revoked) if there is an upstream authority$/, /^only Old local authorities can be tainted/
]

/** Ours against what SPIRE said, step by step: status, reason, answer and the status of each item, quoted words; or as the step says. */
export function compare (t: Test, steps: readonly Step[], ours: readonly Told[], spires: readonly Told[]): void {
  t.same([ours.length, spires.length], [steps.length, steps.length])
  for (const [index, step] of steps.entries()) {
    const [told, spire] = [ours[index] as Told, spires[index] as Told]
    if (step.differs === undefined) {
      t.strictSame(bound(told), bound(spire), nameOf(step))
      t.same(unsaid(told, spire), [], `${nameOf(step)}: what is quoted is said`)
      continue
    }
    const [expected, why] = step.differs
    const came = typeof expected === 'string' ? told.status : itemsOf(told).map(({ status }) => status?.code ?? 0)
    t.same(came, expected, `${nameOf(step)}: ${why}`)
    t.notSame(bound(told), bound(spire), `${nameOf(step)}: it still differs`)
  }
}

/** What is quoted and not said by SPIRE to anything. */
export function unquoted (spires: readonly Told[]): readonly RegExp[] {
  const everything = spires.flatMap(messagesOf)
  return quoted.filter(pattern => !everything.some(message => pattern.test(message)))
}

/** Without messages. */
function bound ({ status, reason, answer }: Told): unknown {
  const results = itemsOf({ answer }).map(item => ({ ...item, status: item.status?.code ?? 0 }))
  return { status, reason, answer: results.length === 0 ? answer : results }
}

/** What of SPIRE's words is quoted, and not in the message of ours in the same place. */
function unsaid (ours: Told, spires: Told): readonly string[] {
  const said = messagesOf(ours)
  return messagesOf(spires).flatMap((message, index) =>
    quoted.flatMap(pattern => pattern.exec(message)?.[0] ?? []).filter(words => said[index]?.includes(words) !== true))
}

function messagesOf (told: Told): readonly string[] {
  return [told.message ?? '', ...itemsOf(told).map(({ status }) => status?.message ?? '')]
}

function itemsOf ({ answer }: Pick<Told, 'answer'>): readonly Item[] {
  return (answer as { results?: readonly Item[] } | undefined)?.results ?? []
}
