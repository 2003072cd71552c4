import { SpiffeError } from '../spiffe/errors.ts'
import { bind, type BoundService } from './server.ts'
import { HealthCheckResponse_ServingStatus as ServingStatus, healthService as service } from '../wire/generated/health.ts'

/** `grpc.health.v1.Health/Check`: SERVING while the probe succeeds (spire-surface §1.9). List and Watch are not offered. */
export function healthService (probe: () => Promise<unknown>): BoundService {
  return bind(service, {
    async check ({ service: name }) {
      if (name !== '') throw new SpiffeError('argument_invalid', `unknown service ${JSON.stringify(name.slice(0, 100))}`)
      try {
        await probe()
        return { status: ServingStatus.SERVING }
      } catch {
        return { status: ServingStatus.NOT_SERVING }
      }
    }
  })
}
