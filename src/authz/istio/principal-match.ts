import { parseSpiffeId, pathOf, spiffeIdOf, trustDomainOf } from '../../spiffe/spiffe-id.ts'
import { parseTrustDomain, type TrustDomain } from '../../spiffe/trust-domain.ts'
import type { Match } from '../policy/match.ts'
import { parseTextMatch } from '../policy/match-text.ts'

/**
 * Whom a pattern means that leaves the trust domain open (a star in its place, a namespace, a service account): `own` where it would let
 * somebody in, `every` where it would refuse. So no other trust domain's caller profits from a pattern that does not name his.
 */
export type Reach = 'own' | 'every'

/** In policies it stands for the mesh's trust domain, whatever that is called. */
const pointer = 'cluster.local'

/**
 * Reads `TD/ns/NS/sa/SA`, or any other ID without its scheme, with a star at one end. A trust domain that is the mesh's own means all its
 * names.
 * @throws {Error} saying the rule
 */
export function parsePrincipal (text: string, own: readonly TrustDomain[], reach: Reach): Match[] {
  const match = parseTextMatch(text)
  const domains = reach === 'own' ? own : undefined
  switch (match.kind) {
    case 'present': return [{ kind: 'present', domains }]
    case 'suffix': return [{ kind: 'suffix', value: match.value, domains }, ...ownEndings(match.value, own)]
    case 'prefix': return prefixes(match.value, own, reach)
    default: return exactIds(text, own)
  }
}

function exactIds (text: string, own: readonly TrustDomain[]): Match[] {
  if (text.includes('://')) throw new Error('is written without spiffe://')
  const id = parseSpiffeId(`spiffe://${text}`)
  const path = pathOf(id)
  if (path === '') throw new Error('names a trust domain and nobody in it')
  return namesOf(trustDomainOf(id), own).map(domain => ({ kind: 'exact', value: spiffeIdOf(domain, path) }))
}

function prefixes (value: string, own: readonly TrustDomain[], reach: Reach): Match[] {
  if (value.includes('://')) throw new Error('is written without spiffe://')
  const slash = value.indexOf('/')
  if (slash >= 0) {
    const domain = parseTrustDomain(value.slice(0, slash))
    return namesOf(domain, own).map(name => ({ kind: 'prefix', value: `spiffe://${name}${value.slice(slash)}` }))
  }
  const isOurs = [...own, pointer].some(name => name.startsWith(value))
  if (reach === 'own' && !isOurs) throw new Error('a star stands for own trust domains alone, and none begins so')
  return [
    ...isOurs ? [{ kind: 'present', domains: own } as const] : [],
    ...reach === 'every' ? [{ kind: 'prefix', value: `spiffe://${value}` } as const] : []
  ]
}

/** `*-td/ns/NS/sa/SA`: when that ends one of the own names, all of them are meant. */
function ownEndings (value: string, own: readonly TrustDomain[]): Match[] {
  const slash = value.indexOf('/')
  if (slash <= 0 || value.split('/').length !== 5) return []
  return [...own, pointer].some(name => name.endsWith(value.slice(0, slash)))
    ? [{ kind: 'suffix', value: value.slice(slash), domains: own }] : []
}

function namesOf (domain: TrustDomain, own: readonly TrustDomain[]): readonly TrustDomain[] {
  return own.includes(domain) || domain === pointer ? own : [domain]
}

/** Reads the name of a namespace, with a star at one end. @throws {Error} saying the rule */
export function parseNamespace (text: string, own: readonly TrustDomain[], reach: Reach): Match {
  return { kind: 'workload', workload: { domains: reach === 'own' ? own : undefined, namespace: parseTextMatch(text) } }
}

/** Reads `NS/SA`, or `SA` of the policy's namespace. @throws {Error} saying the rule */
export function parseServiceAccount (text: string, namespace: string, own: readonly TrustDomain[], reach: Reach): Match {
  const parts = text.split('/')
  if (text.includes('*')) throw new Error('a star is not for service accounts')
  if (text.length > 320 || parts.length > 2 || parts.includes('')) throw new Error('must be ACCOUNT or NAMESPACE/ACCOUNT')
  const [account = '', space = namespace] = parts.toReversed()
  const exact = (value: string) => ({ kind: 'exact', value }) as const
  return { kind: 'workload', workload: {
    domains: reach === 'own' ? own : undefined, namespace: exact(space), serviceAccount: exact(account)
  } }
}
