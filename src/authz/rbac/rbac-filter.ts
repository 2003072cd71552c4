import {
  HttpRBAC as HttpRbac, HttpRBACPerRoute as HttpRbacPerRoute, type HttpRBACInit
} from '../../wire/generated/envoy-http-rbac.ts'
import { NetworkRBAC as NetworkRbac } from '../../wire/generated/envoy-network-rbac.ts'
import { RBAC_Action as Action } from '../../wire/generated/envoy-rbac.ts'
import type { AnyInit } from '../../wire/generated/well-known.ts'
import { decodeMessage } from '../../wire/decode-message.ts'
import type { Decider } from './decider.ts'
import { extension, type Extension } from './extension.ts'

/** In the order in which they stand in a chain. */
const filterNames = ['federation', 'audit', 'deny', 'allow'] as const
export type FilterName = typeof filterNames[number]

export interface RbacFilter {
  readonly name: FilterName
  readonly enforced: Decider | undefined
  /** As if shadow rules were obeyed. */
  readonly shadow: Decider | undefined
}

export const refuseEverything: RbacFilter = { name: 'allow', enforced: { rules: { action: Action.ALLOW } }, shadow: undefined }

/** The names of filters in a chain, and of what a route says of them. */
export function nameInChain (name: FilterName): string { return `assay.rbac.${name}` }

export function rbacExtension ({ name, enforced, shadow }: RbacFilter, kind: 'network' | 'http'): Extension {
  const decided = {
    ...enforced,
    ...shadow === undefined ? {} : 'rules' in shadow ? { shadowRules: shadow.rules } : { shadowMatcher: shadow.matcher },
    shadowRulesStatPrefix: `${name}_`
  }
  return kind === 'http'
    ? extension(nameInChain(name), HttpRbac, { ...decided, rulesStatPrefix: `${name}_` })
    : extension(nameInChain(name), NetworkRbac, { ...decided, statPrefix: `${name}_` })
}

/** A filter of a chain that is there only for requests whose route says something of it: the others do not pay for it. */
export interface Placeholder extends Extension { readonly disabled: boolean }

/**
 * For a chain that serves several workloads, one per route: the filters that stand in it. What a route does not say is refused.
 */
export function placeholders (): Placeholder[] {
  const empty = (name: FilterName): RbacFilter => ({ name, enforced: undefined, shadow: undefined })
  return filterNames.map(name => name === 'allow' ? { ...rbacExtension(refuseEverything, 'http'), disabled: false }
    : { ...rbacExtension(empty(name), 'http'), disabled: true })
}

/** What the workload's route says of the placeholders, by their names. @param filters of `compileRbac` for `http` */
export function perRoute (filters: readonly Extension[]): Record<string, AnyInit> {
  const said = (name: string, rbac: HttpRBACInit) => [name, extension(name, HttpRbacPerRoute, { rbac }).typedConfig] as const
  const nobodyIsRefused = said(nameInChain('allow'), {})
  return Object.fromEntries([nobodyIsRefused, ...filters.map(({ name, typedConfig }) =>
    said(name, decodeMessage(HttpRbac, typedConfig.value ?? new Uint8Array())))])
}
