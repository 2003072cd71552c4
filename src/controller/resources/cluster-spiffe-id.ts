import { z } from 'zod'
import { parseTrustDomain, type TrustDomain } from '../../spiffe/trust-domain.ts'
import type { KubeObject } from '../kubernetes/kube-object.ts'
import { type LabelSelector, labelSelectorSchema } from '../kubernetes/label-selector.ts'
import { parseTemplate, type Template } from '../../golang/template/parse-template.ts'
import { podFields } from '../kubernetes/template-fields.ts'
import { field, optionalFlag, optionalText, optionalTexts, readSpec, type Resource, resourceOf, ttlSeconds } from './resource.ts'

/** What a ClusterSPIFFEID says (spire-surface §8.2). */
export interface ClusterSpiffeIdSpec {
  readonly id: Template
  readonly dnsNames: readonly Template[]
  /** Beside the pod's UID. */
  readonly selectors: readonly Template[]
  /** 0: the server's. */
  readonly x509SvidTtlSeconds: number
  readonly jwtSvidTtlSeconds: number
  readonly federatesWith: readonly TrustDomain[]
  readonly namespaceSelector: LabelSelector
  readonly podSelector: LabelSelector
  readonly admin: boolean
  readonly downstream: boolean
  readonly autoPopulateDnsNames: boolean
  readonly fallback: boolean
  readonly hint: string
}

export type ClusterSpiffeId = Resource<ClusterSpiffeIdSpec>

/** Other keys are a newer version's. */
const schema = z.looseObject({
  spiffeIDTemplate: z.string().min(1, 'must not be empty'),
  ttl: ttlSeconds,
  jwtTtl: ttlSeconds,
  dnsNameTemplates: optionalTexts,
  workloadSelectorTemplates: optionalTexts,
  federatesWith: optionalTexts,
  namespaceSelector: labelSelectorSchema.nullish(),
  podSelector: labelSelectorSchema.nullish(),
  admin: optionalFlag,
  downstream: optionalFlag,
  autoPopulateDNSNames: optionalFlag,
  fallback: optionalFlag,
  hint: optionalText
})

export function readClusterSpiffeId (object: KubeObject): ClusterSpiffeId {
  return resourceOf('ClusterSPIFFEID', object, raw => {
    const spec = readSpec(schema, raw)
    const template = (name: string) => (text: string) => field(name, () => parseTemplate(text, podFields))
    return {
      id: template('spiffeIDTemplate')(spec.spiffeIDTemplate),
      dnsNames: spec.dnsNameTemplates.map(template('dnsNameTemplates')),
      selectors: spec.workloadSelectorTemplates.map(template('workloadSelectorTemplates')),
      x509SvidTtlSeconds: spec.ttl,
      jwtSvidTtlSeconds: spec.jwtTtl,
      federatesWith: spec.federatesWith.map(readTrustDomain),
      namespaceSelector: spec.namespaceSelector ?? {},
      podSelector: spec.podSelector ?? {},
      admin: spec.admin,
      downstream: spec.downstream,
      autoPopulateDnsNames: spec.autoPopulateDNSNames,
      fallback: spec.fallback,
      hint: spec.hint
    }
  })
}

function readTrustDomain (name: string): TrustDomain {
  return field('federatesWith', () => parseTrustDomain(name.replace(/^spiffe:\/\//, '')))
}
