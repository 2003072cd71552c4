import type { Finding, FindingCode } from './finding.ts'
import { breadth, sharing } from './identity-breadth.ts'
import { lifetimes } from './lifetimes.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { bareTrustDomain } from './partners.ts'
import { listOf, recordOf, textOf } from './raw-fields.ts'
import { spiffeIdTemplateFaults } from './spiffe-id-template.ts'
import { templateFacts } from './template-facts.ts'

const trustDomainName = /^[a-z0-9._-]{1,255}$/

/** What is found in one ClusterSPIFFEID. @param trustDomain the controller's, if it is known */
export function identity (manifest: Manifest, trustDomain: string | undefined): readonly Finding[] {
  const spec = recordOf(manifest.body['spec'])
  const template = textOf(spec['spiffeIDTemplate'])
  const faults = spiffeIdTemplateFaults(template, trustDomain)
    .map(({ code, message }) => findingAt(manifest, ['spec', 'spiffeIDTemplate'], code, `spiffeIDTemplate ${message}`))
  return [
    ...faults,
    ...otherTemplates(manifest),
    ...partnerNames(manifest),
    ...lifetimes(manifest, { x509: 'ttl', jwt: 'jwtTtl' }),
    ...breadth(manifest),
    // Of a template that gives no ID at all there is nothing to say about whose ID it is.
    ...faults.some(({ severity }) => severity === 'error') ? [] : sharing(manifest, template)
  ]
}

function otherTemplates (manifest: Manifest): readonly Finding[] {
  const spec = recordOf(manifest.body['spec'])
  return (['dnsNameTemplates', 'workloadSelectorTemplates'] as const).flatMap(field => listOf(spec[field]).flatMap((value, index) => {
    const at = (code: FindingCode, message: string) =>
      findingAt(manifest, ['spec', field, index], code, `${field} ${message}`)
    const template = textOf(value)
    if (template.length > 4096) return [at('value-malformed', 'has one longer than 4096 characters')]
    const { fault, unknown } = templateFacts(template)
    if (fault !== undefined) return [at('template-malformed', fault)]
    const isSelector = field === 'dnsNameTemplates' || template.includes('{{') || /^[^:]+:./.test(template)
    return [
      ...template !== '' && isSelector ? [] : [at('value-malformed', 'has one that is no selector such as k8s:container-name:web')],
      ...unknown.map(name => at('unknown-template-value', `uses .${name}, which does not exist`))
    ]
  }))
}

function partnerNames (manifest: Manifest): readonly Finding[] {
  return listOf(recordOf(manifest.body['spec'])['federatesWith']).flatMap((value, index) => {
    if (trustDomainName.test(bareTrustDomain(value))) return []
    return [findingAt(manifest, ['spec', 'federatesWith', index], 'value-malformed', `${JSON.stringify(value)} is no trust domain`)]
  })
}
