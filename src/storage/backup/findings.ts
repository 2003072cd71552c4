/**
 * What the database to be overwritten says that its backup does not: a difference that the restore undoes, or keeps.
 * `agent_unbanned`: banned in the backup, not any more. `authority_cleared`: tainted or revoked in the backup, not now.
 * `revocation_lifted`: in the backup, and neither expired nor there now.
 */
export type FindingKind =
  | 'authority_revoked' | 'authority_tainted' | 'authority_cleared' | 'authority_made'
  | 'agent_banned' | 'agent_unbanned' | 'agent_evicted' | 'agent_renewed' | 'agent_attested'
  | 'revocation_made' | 'revocation_lifted'
  | 'entry_deleted' | 'entry_changed' | 'entry_created'
  | 'service_deleted' | 'service_changed' | 'service_created'
  | 'bundle_deleted' | 'bundle_changed' | 'bundle_created'
  | 'federation_deleted' | 'federation_changed' | 'federation_created'
  | 'policy_applied'

/** `stays` as it is now; `comes_back` from the backup; `goes_back` to what the backup says; `lost`. */
export type Outcome = 'stays' | 'comes_back' | 'goes_back' | 'lost'

/**
 * Where agents, authorities, keys and the own bundle come from. `empty`: the backup, nothing was there. `kept`: they stay as they are now,
 * the database being a later state of the one in the backup. `merged`: the backup, with what is banned, tainted or revoked now.
 * `discarded`: the backup alone, as was asked for.
 */
export type Identities = 'empty' | 'kept' | 'merged' | 'discarded'

export interface Finding {
  readonly kind: FindingKind
  readonly outcome: Outcome
  readonly total: number
  /** The first thousand. */
  readonly listed: readonly Difference[]
}

/**
 * What differs: an entry, a service or a revocation by id, a version of policies by number, an agent by SPIFFE ID, a bundle or
 * a federation relationship by trust domain, an authority by kind and id.
 */
export interface Difference {
  readonly id: string
  /** Of an entry; what a revocation is about. */
  readonly spiffeId?: string | undefined
}

type Outcomes = Readonly<Record<FindingKind, Readonly<Record<Exclude<Identities, 'empty'>, Outcome>>>>

const always = (outcome: Outcome) => ({ kept: outcome, merged: outcome, discarded: outcome })

/** In the order in which they are told: what touches security first. */
const outcomes: Outcomes = {
  authority_revoked: { kept: 'stays', merged: 'stays', discarded: 'goes_back' },
  authority_tainted: { kept: 'stays', merged: 'stays', discarded: 'goes_back' },
  authority_cleared: always('goes_back'),
  authority_made: { kept: 'stays', merged: 'lost', discarded: 'lost' },
  agent_banned: { kept: 'stays', merged: 'stays', discarded: 'goes_back' },
  agent_unbanned: always('goes_back'),
  agent_evicted: { kept: 'stays', merged: 'comes_back', discarded: 'comes_back' },
  agent_renewed: { kept: 'stays', merged: 'goes_back', discarded: 'goes_back' },
  agent_attested: { kept: 'stays', merged: 'lost', discarded: 'lost' },
  revocation_made: { kept: 'stays', merged: 'stays', discarded: 'goes_back' },
  revocation_lifted: always('goes_back'),
  entry_deleted: always('comes_back'),
  entry_changed: always('goes_back'),
  entry_created: always('lost'),
  service_deleted: always('comes_back'),
  service_changed: always('goes_back'),
  service_created: always('lost'),
  bundle_deleted: always('comes_back'),
  bundle_changed: always('goes_back'),
  bundle_created: always('lost'),
  federation_deleted: always('comes_back'),
  federation_changed: always('goes_back'),
  federation_created: always('lost'),
  policy_applied: always('lost')
}

const mostListed = 1_000

/** Gathers differences as they are found. */
export class Findings {
  readonly #found = new Map<FindingKind, { total: number, readonly listed: Difference[] }>()

  add (kind: FindingKind, difference: Difference): void {
    const found = this.#found.get(kind) ?? { total: 0, listed: [] }
    this.#found.set(kind, found)
    found.total++
    if (found.listed.length < mostListed) found.listed.push(difference)
  }

  told (identities: Exclude<Identities, 'empty'>): Finding[] {
    return (Object.keys(outcomes) as FindingKind[]).flatMap(kind => {
      const found = this.#found.get(kind)
      return found === undefined ? [] : [{ kind, outcome: outcomes[kind][identities], ...found }]
    })
  }
}

/** One line, e.g. `2 entries deleted since: back again`. */
export function formatFinding ({ kind, outcome, total }: Pick<Finding, 'kind' | 'outcome' | 'total'>): string {
  const [first, verb] = kind.split('_') as [string, string]
  const noun = nouns[first] ?? first
  const many = noun.endsWith('y') ? noun.replace(/y$/, 'ies') : `${noun}s`
  const what = verbs[verb] ?? `${verb} since`
  return `${total} ${total === 1 ? noun : many} ${what}: ${consequences[kind][outcome] ?? outcome}`
}

const nouns: Readonly<Record<string, string>> = { policy: 'policy set', federation: 'federation relationship' }

const verbs: Readonly<Record<string, string>> = {
  cleared: 'that the backup distrusts', unbanned: 'banned in the backup and not now', renewed: 'whose SVID was renewed since'
}

const consequences: Readonly<Record<FindingKind, Readonly<Partial<Record<Outcome, string>>>>> = {
  authority_revoked: { stays: 'revoked as now', goes_back: 'trusted again' },
  authority_tainted: { stays: 'tainted as now', goes_back: 'in good standing again' },
  authority_cleared: { goes_back: 'distrusted again' },
  authority_made: { stays: 'kept', lost: 'lost, and what they signed cannot be verified any more' },
  agent_banned: { stays: 'banned as now', goes_back: 'banned no more' },
  agent_unbanned: { goes_back: 'banned again' },
  agent_evicted: { stays: 'evicted as now', comes_back: 'attested again' },
  agent_renewed: { stays: 'kept', goes_back: 'refused until they attest again' },
  agent_attested: { stays: 'kept', lost: 'forgotten, they must attest again' },
  revocation_made: { stays: 'in force as now', goes_back: 'void' },
  revocation_lifted: { goes_back: 'in force again' },
  entry_deleted: { comes_back: 'back again' },
  entry_changed: { goes_back: 'as in the backup' },
  entry_created: { lost: 'lost' },
  service_deleted: { comes_back: 'back again' },
  service_changed: { goes_back: 'as in the backup' },
  service_created: { lost: 'lost' },
  bundle_deleted: { comes_back: 'back again' },
  bundle_changed: { goes_back: 'as in the backup' },
  bundle_created: { lost: 'lost' },
  federation_deleted: { comes_back: 'back again' },
  federation_changed: { goes_back: 'as in the backup' },
  federation_created: { lost: 'lost' },
  policy_applied: { lost: 'lost, and those of the backup decide again' }
}
