import { checkEntry } from '../../spiffe/check-entry.ts'
import { plainEntry } from '../../spiffe/entry.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { parseSelector } from '../../spiffe/selector.ts'
import { parseSpiffeId, trustDomainOf } from '../../spiffe/spiffe-id.ts'
import type { Finding } from './finding.ts'
import { lifetimes } from './lifetimes.ts'
import { findingAt, type Manifest } from './manifest.ts'
import { recordOf, textOf, textsOf } from './raw-fields.ts'

/** What is found in one ClusterStaticEntry. @param trustDomain the controller's, if it is known */
export function staticEntry (manifest: Manifest, trustDomain: string | undefined): readonly Finding[] {
  return [...refusal(manifest, trustDomain), ...lifetimes(manifest, { x509: 'x509SVIDTTL', jwt: 'jwtSVIDTTL' })]
}

/** What the server would say. */
function refusal (manifest: Manifest, trustDomain: string | undefined): readonly Finding[] {
  const spec = recordOf(manifest.body['spec'])
  try {
    const own = trustDomainOf(parseSpiffeId(textOf(spec['spiffeID'])))
    if (trustDomain !== undefined && own !== trustDomain) {
      return [findingAt(manifest, ['spec', 'spiffeID'], 'foreign-trust-domain', `spiffeID is in ${own}, not in ${trustDomain}`)]
    }
    checkEntry({
      ...plainEntry,
      spiffeId: textOf(spec['spiffeID']),
      parentId: textOf(spec['parentID']),
      selectors: textsOf(spec['selectors']).map(parseSelector),
      federatesWith: textsOf(spec['federatesWith']),
      dnsNames: textsOf(spec['dnsNames']),
      admin: spec['admin'] === true,
      downstream: spec['downstream'] === true,
      storeSvid: spec['storeSVID'] === true,
      hint: textOf(spec['hint'])
    }, own)
    return []
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    return [findingAt(manifest, ['spec'], 'value-malformed', error.message)]
  }
}
