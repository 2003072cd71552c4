import type { VaultCodes } from '../../vault/vault-http.ts'

export const vaultKeyCodes: VaultCodes = {
  unreachable: 'key_service_unreachable', sealed: 'key_service_sealed', throttled: 'key_service_throttled', failed: 'key_service_failed',
  refused: 'key_service_refused', malformed: 'key_service_malformed'
}
