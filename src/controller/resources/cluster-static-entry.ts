import { z } from 'zod'
import { parseSelector, type Selector } from '../../spiffe/selector.ts'
import type { KubeObject } from '../kubernetes/kube-object.ts'
import { field, optionalFlag, optionalText, optionalTexts, readSpec, type Resource, resourceOf, ttlSeconds } from './resource.ts'

/** What a ClusterStaticEntry says: an entry as it is written, whose IDs are checked when it is made one. */
export interface ClusterStaticEntrySpec {
  readonly spiffeId: string
  readonly parentId: string
  readonly selectors: readonly Selector[]
  readonly federatesWith: readonly string[]
  readonly x509SvidTtlSeconds: number
  readonly jwtSvidTtlSeconds: number
  readonly dnsNames: readonly string[]
  readonly hint: string
  readonly admin: boolean
  readonly downstream: boolean
  readonly storeSvid: boolean
}

export type ClusterStaticEntry = Resource<ClusterStaticEntrySpec>

const schema = z.looseObject({
  spiffeID: z.string(),
  parentID: z.string(),
  selectors: z.array(z.string()).min(1, 'must not be empty'),
  federatesWith: optionalTexts,
  x509SVIDTTL: ttlSeconds,
  jwtSVIDTTL: ttlSeconds,
  dnsNames: optionalTexts,
  hint: optionalText,
  admin: optionalFlag,
  downstream: optionalFlag,
  storeSVID: optionalFlag
})

export function readClusterStaticEntry (object: KubeObject): ClusterStaticEntry {
  return resourceOf('ClusterStaticEntry', object, raw => {
    const spec = readSpec(schema, raw)
    return {
      spiffeId: spec.spiffeID,
      parentId: spec.parentID,
      selectors: spec.selectors.map(text => field('selectors', () => parseSelector(text))),
      federatesWith: spec.federatesWith,
      x509SvidTtlSeconds: spec.x509SVIDTTL,
      jwtSvidTtlSeconds: spec.jwtSVIDTTL,
      dnsNames: spec.dnsNames,
      hint: spec.hint,
      admin: spec.admin,
      downstream: spec.downstream,
      storeSvid: spec.storeSVID
    }
  })
}
