import { formatDuration, parseDuration } from '../../runtime/duration.ts'
import type { Finding, FindingCode } from './finding.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { recordOf, textOf } from './raw-fields.ts'

/** Above these something else than a workload's needs decided. */
const longestMs = { x509: 24 * 3_600_000, jwt: 3_600_000 } as const
const shortestMs = 60_000

/** @param fields of the spec, by what they are for */
export function lifetimes (manifest: Manifest, fields: Readonly<Record<keyof typeof longestMs, string>>): readonly Finding[] {
  return (['x509', 'jwt'] as const).flatMap(kind => {
    const value = recordOf(manifest.body['spec'])[fields[kind]]
    if (value === undefined) return []
    const found = (code: FindingCode, rule: string) => [findingAt(manifest, ['spec', fields[kind]], code, rule)]
    const ms = parseDuration(textOf(value))
    if (ms === undefined || ms < 0) return found('value-malformed', `${fields[kind]} is no duration such as 90s, 15m or 1h30m`)
    if (ms === 0) return []
    if (ms % 1_000 !== 0) return found('ttl-not-whole', `${fields[kind]} is ${textOf(value)}`)
    if (kind === 'x509' && ms < shortestMs) return found('ttl-short', `X509-SVIDs live for ${formatDuration(ms)}`)
    if (ms <= longestMs[kind]) return []
    const name = kind === 'x509' ? 'X509-SVIDs' : 'JWT-SVIDs, which nobody can revoke,'
    return found('ttl-long', `${name} live for ${formatDuration(ms)}`)
  })
}
