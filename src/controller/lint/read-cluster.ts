import { SpiffeError } from '../../spiffe/errors.ts'
import { manifestOf, type Manifest } from './manifest.ts'
import { listOf, recordOf, textOf, type Raw } from './raw-fields.ts'

/** A resource may hold a bundle of a megabyte. */
const pageSize = 20
const mostPages = 2_500

const kinds: Readonly<Record<string, string>> = {
  ClusterSPIFFEID: 'clusterspiffeids',
  ClusterStaticEntry: 'clusterstaticentries',
  ClusterFederatedTrustDomain: 'clusterfederatedtrustdomains'
}

/**
 * The custom resources that a cluster has.
 * @param get an object of the API by its path; `undefined` where there is none
 * @throws {SpiffeError} `kubernetes_unreachable`, also for a cluster without the definitions
 */
export async function readCluster (get: (path: string) => Promise<Raw | undefined>): Promise<readonly Manifest[]> {
  const found: Manifest[] = []
  for (const [kind, plural] of Object.entries(kinds)) {
    let next = ''
    for (let page = 0; page === 0 || next !== ''; page++) {
      const list = await get(`/apis/spire.spiffe.io/v1alpha1/${plural}?limit=${pageSize}&continue=${encodeURIComponent(next)}`)
      if (list === undefined) throw unreadable(`has no ${kind}: deploy/crds are not installed there`)
      if (page === mostPages) throw unreadable(`has more than ${pageSize * mostPages} ${plural}`)
      // Items of a list do not say what they are.
      for (const item of listOf(list['items'])) found.push(manifestOf({ ...recordOf(item), apiVersion: 'spire.spiffe.io/v1alpha1', kind }))
      next = textOf(recordOf(list['metadata'])['continue'])
    }
  }
  return found
}

function unreadable (rule: string): SpiffeError { return new SpiffeError('kubernetes_unreachable', `the cluster ${rule}`) }
