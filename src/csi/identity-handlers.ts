import type { CallContext } from '../rpc/call.ts'
import { version } from '../runtime/version.ts'
import type { IdentityHandlers } from '../wire/generated/csi.ts'
import type { Volumes } from './volumes.ts'

/** CSI's identity service: what this driver is called, and whether it can work yet. */
export function identityHandlers ({ driverName, volumes }: { driverName: string, volumes: Volumes }): IdentityHandlers<CallContext> {
  return {
    async getPluginInfo () { return { name: driverName, vendorVersion: version } },
    /** None: there is no controller, and a volume can be had on each node. */
    async getPluginCapabilities () { return {} },
    /** Not ready until the agent has made its folder; the driver itself needs no restart then. */
    async probe () { return { ready: { value: volumes.ready } } }
  }
}
