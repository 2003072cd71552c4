import type { EndedCall } from '../rpc/serve-call.ts'
import { statusWord } from '../rpc/status-word.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Authorizer } from './authorize.ts'

/**
 * Writes a line for each call when it has ended, a stream's too: who called what, as what it was admitted and how it went. Words are those
 * of SPIRE's audit log (spire-surface §6.4), so that what reads that one reads this one.
 */
export function auditLog (log: Logger, authorizer: Pick<Authorizer, 'admissionOf'>): (call: EndedCall) => void {
  return ({ method: path, requestId, caller, context, status, reason }) => {
    const [service = '', method] = path.slice(1).split('/')
    const admission = context === undefined ? undefined : authorizer.admissionOf(context)
    log.info({
      type: 'audit',
      status: status === 'OK' ? 'success' : 'error',
      ...status === 'OK' ? {} : { status_code: statusWord(status), status_message: reason },
      authorized_as: admission?.as,
      authorized_via: admission?.via,
      service: service.replace(/^spire\.api\.server\./, ''),
      method,
      request_id: requestId,
      ...caller?.kind === 'unix'
        ? { caller_uid: caller.peer.uid, caller_gid: caller.peer.gid, caller_pid: caller.peer.pid }
        : { caller_addr: caller?.address, caller_id: caller?.svid?.id }
    }, 'API accessed')
  }
}
