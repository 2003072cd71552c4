import { SpiffeError } from '../../spiffe/errors.ts'
import { isReading, methodVerbs } from '../admin/verb.ts'
import { serverApiPolicy } from '../server-api-policy.ts'
import type { PolicyTable } from './policy-data.ts'
import { normalizeRego } from './standard-rego.ts'

/** Methods that show strangers nothing but public keys. */
const harmless = new Set(['/spire.api.server.bundle.v1.Bundle/GetFederatedBundle', '/grpc.health.v1.Health/Check'])

/**
 * Refuses a table that hands the trust domain to whoever asks: a method for everybody that is not so anyway, or one by which agents or
 * downstream servers could register, mint or sign more than their own.
 * @returns what is allowed but likely unwanted, a sentence each
 * @throws {SpiffeError} `policy_too_open`, naming the method and its right
 */
export function lintPolicyTable (name: string, table: PolicyTable): string[] {
  const warnings: string[] = []
  for (const [method, callers] of table) {
    const usual = serverApiPolicy.get(method)
    // SPIRE has services that we do not offer.
    if (usual === undefined) continue
    if (callers.includes('anyone') && !usual.includes('anyone') && !harmless.has(method)) {
      throw tooOpen(name, `allow_any for ${method}: whoever reaches the port could call it`)
    }
    const verb = methodVerbs.get(method)
    for (const caller of ['agent', 'downstream'] as const) {
      if (!callers.includes(caller) || usual.includes(caller)) continue
      if (verb === undefined || !isReading(verb)) throw tooOpen(name, `allow_${caller} for ${method}: it would make each of them an admin`)
      warnings.push(`${name}: allow_${caller} for ${method} lets each of them read what only operators need`)
    }
  }
  for (const method of serverApiPolicy.keys()) {
    const lost = /Agent\/AttestAgent$|Agent\/RenewAgent$|Entry\/SyncAuthorizedEntries$|SVID\/BatchNewX509SVID$/.test(method)
    if (lost && (table.get(method) ?? []).length === 0) warnings.push(`${name}: nobody may call ${method}: agents cannot work`)
  }
  return warnings
}

/**
 * Refuses Rego that admits everybody unless it says otherwise, as far as can be seen without evaluating it.
 * @throws {SpiffeError} `policy_too_open`
 */
export function lintRego (name: string, text: string): void {
  const lines = normalizeRego(text).split('\n')
  for (const line of lines) {
    const byDefault = /^default (allow|allow_if_agent|allow_if_downstream) ?:?= ?true\b/.exec(line)
    if (byDefault !== null) throw tooOpen(name, `"default ${byDefault[1]}" is true: what no rule speaks of is allowed`)
    if (/^allow(?: ?:?= ?true)?(?: if)?(?: ?\{ ?true ?\}| true)?$/.test(line) && !line.endsWith(' if')) {
      throw tooOpen(name, '"allow" is true without a condition')
    }
    if (/["']allow["'] ?: ?true\b/.test(line)) throw tooOpen(name, 'the result\'s "allow" is true without a condition')
  }
}

function tooOpen (name: string, rule: string): SpiffeError { return new SpiffeError('policy_too_open', `${name}: ${rule}`) }
