import type { Template } from '../../../golang/template/parse-template.ts'
import { admitInSegment, admitPath } from '../../../golang/template/render-template.ts'
import type { Admit } from '../../../golang/template/template-functions.ts'
import type { Certificate } from '../../../x509/certificate.ts'
import { attributesOf } from '../../../x509/distinguished-name.ts'
import { agentPathTemplate, fieldsOf, ownText, renderAgentPath } from '../agent-path.ts'

const text = { kind: 'text' } as const
const texts = { kind: 'list', of: text } as const

/** Attributes of a name by Go's names; the last of several, or all of them. */
const one = { CommonName: '2.5.4.3', SerialNumber: '2.5.4.5' }
const several = {
  Country: '2.5.4.6', Locality: '2.5.4.7', Province: '2.5.4.8', StreetAddress: '2.5.4.9', Organization: '2.5.4.10',
  OrganizationalUnit: '2.5.4.11', PostalCode: '2.5.4.17'
}
const name = fieldsOf({
  ...Object.fromEntries(Object.keys(one).map(key => [key, text])), ...Object.fromEntries(Object.keys(several).map(key => [key, texts]))
})

/** What `agent_path_template` of x509pop may read. */
export const popAgentPathTemplate = agentPathTemplate(fieldsOf({
  PluginName: ownText, Fingerprint: ownText, TrustDomain: ownText, SerialNumberHex: ownText, SVIDPathTrimmed: ownText,
  URISanSelectors: { kind: 'map' }, Subject: name, Issuer: name, DNSNames: texts
}))

export interface PopAgentPath {
  readonly fingerprint: string
  readonly trustDomain: string
  readonly serialNumberHex: string
  /** Empty but in mode `spiffe`. */
  readonly svidPathTrimmed: string
  readonly uriSans: ReadonlyMap<string, string>
}

/** @throws {SpiffeError} `template_not_rendered` */
export function renderPopAgentPath (template: Template, leaf: Certificate, path: PopAgentPath): string {
  return renderAgentPath(template, {
    PluginName: 'x509pop', Fingerprint: path.fingerprint, TrustDomain: path.trustDomain, SerialNumberHex: path.serialNumberHex,
    SVIDPathTrimmed: path.svidPathTrimmed, URISanSelectors: Object.fromEntries(path.uriSans), Subject: nameOf(leaf.subjectDer),
    Issuer: nameOf(leaf.issuerDer), DNSNames: leaf.dnsSans
  }, admitOwn)
}

/** `x509pop://` URIs are written for this server, and their values have slashes. */
const admitOwn: Admit = text => text.from.startsWith('.URISanSelectors ') ? admitPath(text) : admitInSegment(text)

function nameOf (der: Uint8Array): Readonly<Record<string, unknown>> {
  const attributes = attributesOf(der)
  return {
    ...Object.fromEntries(Object.entries(one).map(([key, type]) => [key, attributes.get(type)?.at(-1) ?? ''])),
    ...Object.fromEntries(Object.entries(several).map(([key, type]) => [key, attributes.get(type) ?? []]))
  }
}
