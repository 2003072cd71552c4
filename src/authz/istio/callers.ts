import type { Match } from '../policy/match.ts'
import type { Test } from '../policy/rule.ts'
import type { IstioSource } from './authorization-policy.ts'
import { parseNamespace, parsePrincipal, parseServiceAccount, type Reach } from './principal-match.ts'
import type { Path, ReadingContext } from './reading-context.ts'
import { combined, parseRequestPrincipal, requestPrincipalTests, type Alternatives } from './request-principal.ts'
import { parseIpBlock } from './value-match.ts'

/** What is known of a caller by certificate. */
export type Fields = 'principals' | 'namespaces' | 'serviceAccounts'

export interface Places { readonly any: Path, readonly none: Path }

const mostServiceAccounts = 16
const notWithCustom = [
  'principals', 'notPrincipals', 'namespaces', 'notNamespaces', 'serviceAccounts', 'notServiceAccounts', 'requestPrincipals',
  'notRequestPrincipals'
] as const

/** @returns what one source asks; several alternatives only for request principals */
export function sourceAlternatives (source: IstioSource, path: Path, context: ReadingContext): Alternatives {
  const places = (any: keyof IstioSource, none: keyof IstioSource) => ({ any: [...path, any], none: [...path, none] })
  const { principals, notPrincipals, namespaces, notNamespaces, serviceAccounts, notServiceAccounts } = source
  const { ipBlocks, notIpBlocks, remoteIpBlocks, notRemoteIpBlocks } = source
  if (context.action === 'custom') {
    for (const key of notWithCustom) if (source[key] !== undefined) context.refuse([...path, key], 'is not for the action CUSTOM')
  }
  if ((serviceAccounts ?? notServiceAccounts) !== undefined && (principals ?? notPrincipals ?? namespaces ?? notNamespaces) !== undefined) {
    context.refuse(path, 'service accounts are not for a source with principals or namespaces')
  }
  const tests = [
    ...callerTests('principals', principals, notPrincipals, places('principals', 'notPrincipals'), context),
    ...callerTests('namespaces', namespaces, notNamespaces, places('namespaces', 'notNamespaces'), context),
    ...callerTests('serviceAccounts', serviceAccounts, notServiceAccounts, places('serviceAccounts', 'notServiceAccounts'), context),
    ...addressTests('source.address', ipBlocks, notIpBlocks, places('ipBlocks', 'notIpBlocks'), context),
    ...addressTests('source.remoteAddress', remoteIpBlocks, notRemoteIpBlocks, places('remoteIpBlocks', 'notRemoteIpBlocks'), context)
  ]
  const requests = principalAlternatives(
    source.requestPrincipals, source.notRequestPrincipals, places('requestPrincipals', 'notRequestPrincipals'), context
  )
  return combined([tests], requests)
}

export function callerTests (
  field: Fields, any: readonly string[] | undefined, none: readonly string[] | undefined, places: Places, context: ReadingContext
): readonly Test[] {
  if (any === undefined && none === undefined) return []
  const read = (path: Path, values: readonly string[] | undefined, reach: Reach): Match[] | undefined => {
    if (field === 'serviceAccounts' && (values?.length ?? 0) > mostServiceAccounts) {
      context.refuse(path, `must not have more than ${mostServiceAccounts} members`)
    }
    return context.each(path, values, text => matchesOf(field, text, reach, context))?.flat()
  }
  return [{
    fact: { name: 'source.id' },
    any: read(places.any, any, reachOf('any', context)),
    none: read(places.none, none, reachOf('none', context))
  }]
}

function matchesOf (field: Fields, text: string, reach: Reach, { domains, namespace }: ReadingContext): readonly Match[] {
  if (field === 'principals') return parsePrincipal(text, domains, reach)
  return [field === 'namespaces' ? parseNamespace(text, domains, reach) : parseServiceAccount(text, namespace, domains, reach)]
}

/** Who meets `any` of an ALLOW rule is let in, who meets `none` of a DENY rule is spared; marks are Istio's. */
function reachOf (list: 'any' | 'none', { action }: ReadingContext): Reach {
  if (action === 'audit') return 'every'
  return (action === 'allow') === (list === 'any') ? 'own' : 'every'
}

function addressTests (
  name: 'source.address' | 'source.remoteAddress', any: readonly string[] | undefined, none: readonly string[] | undefined, places: Places,
  context: ReadingContext
): readonly Test[] {
  if (any === undefined && none === undefined) return []
  return [{ fact: { name }, any: context.each(places.any, any, parseIpBlock), none: context.each(places.none, none, parseIpBlock) }]
}

export function principalAlternatives (
  any: readonly string[] | undefined, none: readonly string[] | undefined, places: Places, context: ReadingContext
): Alternatives {
  const wanted = context.each(places.any, any, parseRequestPrincipal)
  const unwanted = context.each(places.none, none, parseRequestPrincipal)
  try {
    return requestPrincipalTests(wanted, unwanted)
  } catch (error) {
    context.refuse(places.none, (error as Error).message)
    return []
  }
}
