import { SpiffeError } from '../../spiffe/errors.ts'
import type { PodName } from '../../wire/generated/agent-sync.ts'
import type { Announcement } from '../workloads/announced-workloads.ts'
import type { PodAnnouncement } from './pod-enrolment.ts'

/** As Kubernetes has them: a label of DNS, a name of DNS, and what it makes of UIDs. */
const patterns = {
  namespace: /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/,
  name: /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/,
  uid: /^[\w-]{1,64}$/
} as const

/**
 * @param announcement checked
 * @throws {SpiffeError} `argument_invalid`, naming the field
 */
export function readPodAnnouncement (
  { id, netnsPath, addresses, selectors }: Announcement, { namespace, name, uid }: PodName
): PodAnnouncement {
  for (const [field, text] of Object.entries({ namespace, name, ...uid === '' ? {} : { uid } })) {
    if (patterns[field as keyof typeof patterns].test(text)) continue
    throw new SpiffeError('argument_invalid', `${JSON.stringify(text.slice(0, 300))} is no ${field} of a pod`)
  }
  const network = selectors.find(({ value }) => value.startsWith('network:'))?.value.slice('network:'.length) ?? ''
  return { id, network, netnsPath, addresses, pod: { namespace, name, uid: uid === '' ? undefined : uid.toLowerCase() } }
}
