import type { CommandGroup } from '../command.ts'

export const revokeCommands: CommandGroup = {
  summary: 'Take trust from one SVID, one SPIFFE ID or one node before its certificates expire',
  commands: {
    svid: {
      summary: 'Revoke one X509-SVID',
      load: async () => (await import('./revoke-svid.ts')).revokeSvid
    },
    id: {
      summary: 'Revoke a SPIFFE ID with all its certificates',
      load: async () => (await import('./revoke-id.ts')).revokeId
    },
    node: {
      summary: 'Ban an agent and revoke all that was issued to its node',
      load: async () => (await import('./revoke-node.ts')).revokeNode
    },
    list: {
      summary: 'List what is revoked',
      load: async () => (await import('./revoke-list.ts')).revokeList
    },
    lift: {
      summary: 'End a revocation before its time',
      load: async () => (await import('./revoke-lift.ts')).revokeLift
    }
  }
}
