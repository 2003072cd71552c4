import type { Test } from 'tap'
import { nameOf, type Step, type Told } from './step.ts'

interface Item { readonly status?: { readonly code?: number, readonly message?: string } }

/** What spire-surface quotes of SPIRE's messages, and with it binds; all other words are ours. */
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
  /^failed to \w+ entry: datastore-(?:sql|validation): /
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
