import { SpiffeError } from '../spiffe/errors.ts'
import type { SdsAliases } from './resource-names.ts'
import type { Found, SecretView } from './secret-resource.ts'

/** A resource of the caller's, fit to be sent or not. */
export type Held = Extract<Found, { kind: 'usable' | 'unusable' }>

/**
 * The answer to one state-of-the-world request, by SPIRE's rules (spire-surface §4.1, §4.2): no names means everything by SPIFFE names;
 * of the names for the own bundle only one is served, and not `default` beside the first identity's own ID; what is left over is refused.
 * @throws {SpiffeError} `secret_not_authorized`, `sds_validator_unsupported`
 */
export function selectSecrets (view: SecretView, names: readonly string[], aliases: SdsAliases, at: Date): Held[] {
  const asked = new Set(names.filter(name => name !== ''))
  const wanted = asked.size === 0 ? view.allNames : withoutRivals(asked, view, aliases)
  const left = new Set(asked)
  const found = [...wanted].flatMap(name => {
    const one = view.find(name, at)
    if (one.kind === 'absent' || one.kind === 'pending') return []
    if (one.kind === 'unsupported') throw tooOld()
    left.delete(name)
    return [one]
  })
  if (left.size > 0) throw notAuthorized(left)
  return found
}

function withoutRivals (asked: ReadonlySet<string>, view: SecretView, aliases: SdsAliases): Set<string> {
  const wanted = new Set(asked)
  const keepFirst = (rivals: readonly (string | undefined)[]) => {
    for (const rival of rivals.filter(name => name !== undefined && asked.has(name)).slice(1)) wanted.delete(rival as string)
  }
  keepFirst([view.ownBundleName, aliases.bundle, aliases.allBundles])
  keepFirst([view.defaultSvidName, aliases.svid])
  return wanted
}

function tooOld (): SpiffeError {
  return new SpiffeError('sds_validator_unsupported', 'unable to use "SPIFFE validator" on Envoy below 1.17')
}

function notAuthorized (names: ReadonlySet<string>): SpiffeError {
  const list = [...names].toSorted().map(name => JSON.stringify(name)).join(' ')
  return new SpiffeError('secret_not_authorized', `workload is not authorized for the requested identities [${list}]`)
}
