import type { CallContext } from '../rpc/call.ts'
import type { Logger } from '../runtime/logger.ts'
import type { RegistrationHandlers } from '../wire/generated/kubelet-registration.ts'

export interface RegistrationDeps {
  readonly driverName: string
  /** Path of the socket of CSI's services, as the kubelet sees it. */
  readonly endpoint: string
  readonly log: Logger
}

/** Of CSI, as kubelets compare it: any 1.x. */
const csiVersion = '1.0.0'

/** What a kubelet asks who listens in its folder of plugins (`pluginregistration`): without it the driver needs node-driver-registrar. */
export function registrationHandlers ({ driverName, endpoint, log }: RegistrationDeps): RegistrationHandlers<CallContext> {
  return {
    async getInfo () { return { type: 'CSIPlugin', name: driverName, endpoint, supportedVersions: [csiVersion] } },
    async notifyRegistrationStatus ({ pluginRegistered, error }) {
      // A kubelet that refused asks again by itself.
      if (pluginRegistered) log.info({ driver: driverName }, 'registered with the kubelet')
      else log.error({ driver: driverName, reason: error.slice(0, 1000) }, 'the kubelet refused the driver')
      return {}
    }
  }
}
