import type { Fact } from '../policy/facts.ts'
import type { Match } from '../policy/match.ts'
import { parseTextMatch } from '../policy/match-text.ts'
import type { IstioCondition } from './authorization-policy.ts'
import { callerTests, principalAlternatives, type Fields } from './callers.ts'
import type { Path, ReadingContext } from './reading-context.ts'
import type { Alternatives } from './request-principal.ts'
import { parseIpBlock, parsePort } from './value-match.ts'

/** A key of `when` that is one fact, and how its values are read. */
const plain: Readonly<Record<string, readonly [Fact, (text: string) => Match]>> = {
  'source.ip': [{ name: 'source.address' }, parseIpBlock],
  'remote.ip': [{ name: 'source.remoteAddress' }, parseIpBlock],
  'destination.ip': [{ name: 'destination.address' }, parseIpBlock],
  'destination.port': [{ name: 'destination.port' }, parsePort],
  'connection.sni': [{ name: 'tls.sni' }, parseTextMatch],
  'request.auth.audiences': [{ name: 'jwt.audience' }, parseTextMatch],
  'request.auth.presenter': [{ name: 'jwt.presenter' }, parseTextMatch]
}

/** Keys that say something of the caller, as fields of a source do. */
const ofCallers: Readonly<Record<string, Fields>> = {
  'source.principal': 'principals', 'source.namespace': 'namespaces', 'source.serviceAccount': 'serviceAccounts'
}

/** Istio's own limit: its external authorizers are asked before anybody is known. */
const notWithCustom = /^(source\.(namespace|serviceAccount|principal)$|request\.auth\.)/

const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$/

/** @returns what one condition asks; several alternatives only for `request.auth.principal` */
export function conditionTests ({ key, values, notValues }: IstioCondition, path: Path, context: ReadingContext): Alternatives {
  const places = { any: [...path, 'values'], none: [...path, 'notValues'] }
  if (context.action === 'custom' && notWithCustom.test(key)) {
    context.refuse([...path, 'key'], `${key} is not for the action CUSTOM`)
    return []
  }
  const caller = Object.hasOwn(ofCallers, key) ? ofCallers[key] : undefined
  if (caller !== undefined) return [callerTests(caller, values, notValues, places, context)]
  if (key === 'request.auth.principal') return principalAlternatives(values, notValues, places, context)
  const [fact, read] = (Object.hasOwn(plain, key) ? plain[key] : bracketed(key, path, context)) ?? []
  if (fact === undefined || read === undefined) return []
  return [[{ fact, any: context.each(places.any, values, read), none: context.each(places.none, notValues, read) }]]
}

function bracketed (key: string, path: Path, context: ReadingContext): readonly [Fact, (text: string) => Match] | undefined {
  const [, base, inner] = /^([A-Za-z.]+)\[(.+)\]$/.exec(key) ?? []
  if (base === 'request.headers' && inner !== undefined && headerName.test(inner) && inner.toLowerCase() !== 'host') {
    return [{ name: 'header', header: inner.toLowerCase() }, parseTextMatch]
  }
  const claim = inner?.split('][') ?? []
  if (base === 'request.auth.claims' && claim.length > 0 && claim.every(name => /^[^[\]]+$/.test(name))) {
    const spaceDelimited = context.spaceDelimitedClaims.has(claim.join('.'))
    return [{ name: 'claim', path: claim, ...spaceDelimited ? { spaceDelimited } : {} }, parseTextMatch]
  }
  context.refuse([...path, 'key'], whyNot(key, base))
  return undefined
}

function whyNot (key: string, base: string | undefined): string {
  if (key.startsWith('experimental.') || key.startsWith('request.experimental.')) return `${key} is Envoy's own and experimental`
  if (base === 'request.headers') return 'must be request.headers[NAME], of no pseudo-header: operations have hosts, methods and paths'
  if (base === 'request.auth.claims') return 'must be request.auth.claims[NAME], with [NAME] once more for each claim inside'
  const others = ['request.auth.principal', 'request.auth.claims[NAME]', 'request.headers[NAME]']
  const known = [...Object.keys(plain), ...Object.keys(ofCallers), ...others]
  return `is not known; known here: ${known.toSorted().join(', ')}`
}
