import type { FindingCode } from './finding.ts'
import { templateFacts } from './template-facts.ts'

/** As in the schema of deploy/crds, so that what is found in a file is what the API server would refuse. */
const maxLength = 4096
const begin = /^spiffe:\/\/([a-z0-9._-]{1,255}|\{\{(?:-\s+)?\s*\$?\.TrustDomain\s*(?:\s+-)?\}\})\//
const whole = /^spiffe:\/\/(?:[A-Za-z0-9._/\s-]|\{\{(?:[^}]|\}[^}])*\}\})*$/

interface Fault { readonly code: FindingCode, readonly message: string }

/**
 * What keeps a template of a SPIFFE ID from being one that stays in its trust domain.
 * @param trustDomain the controller's, if it is known
 */
export function spiffeIdTemplateFaults (template: string, trustDomain: string | undefined): readonly Fault[] {
  if (template.length > maxLength) return [{ code: 'value-malformed', message: `is longer than ${maxLength} characters` }]
  const { fault, unknown } = templateFacts(template)
  if (fault !== undefined) return [{ code: 'template-malformed', message: fault }]
  const unknowns = unknown.map((name): Fault => ({ code: 'unknown-template-value', message: `uses .${name}, which does not exist` }))
  const [, domain] = begin.exec(template) ?? []
  if (domain === undefined) {
    const message = 'begins with neither spiffe://{{ .TrustDomain }}/ nor a trust domain in lower case: what it renders could be in any'
    return [{ code: 'template-leaves-trust-domain', message }, ...unknowns]
  }
  const isForeign = trustDomain !== undefined && !domain.startsWith('{{') && domain !== trustDomain
  return [
    ...isForeign ? [{ code: 'foreign-trust-domain' as const, message: `is in ${domain}, not in ${trustDomain}` }] : [],
    ...pathFaults(template).map((message): Fault => ({ code: 'template-malformed', message })),
    ...unknowns
  ]
}

function pathFaults (template: string): readonly string[] {
  return [
    ...whole.test(template) ? [] : ['has a character outside of {{ }} that no SPIFFE ID has: only A-Z a-z 0-9 . _ - and / may be there'],
    ...!/^spiffe:\/\/[^/]*\/spire(?:\/|$)/.test(template) ? [] : ['is /spire or below, where servers and agents are'],
    ...!/[^:/]\/\.{0,2}(?:\/|$)/.test(template) ? [] : ['ends with a slash, or has a segment that is empty, \'.\' or \'..\'']
  ]
}
