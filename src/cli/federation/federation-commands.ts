import type { CommandGroup } from '../command.ts'

export const federationCommands: CommandGroup = {
  summary: 'Federation relationships: whose bundles the server is to have, and where they are fetched',
  commands: {
    create: {
      summary: 'Create relationships',
      load: async () => (await import('./federation-create.ts')).federationCreate
    },
    list: {
      summary: 'List relationships',
      load: async () => (await import('./federation-list.ts')).federationList
    },
    show: {
      summary: 'Show the relationship with one trust domain',
      load: async () => (await import('./federation-show.ts')).federationShow
    },
    update: {
      summary: 'Change relationships',
      load: async () => (await import('./federation-update.ts')).federationUpdate
    },
    delete: {
      summary: 'End the relationship with a trust domain',
      load: async () => (await import('./federation-delete.ts')).federationDelete
    },
    refresh: {
      summary: 'Have the server fetch a partner\'s bundle now',
      load: async () => (await import('./federation-refresh.ts')).federationRefresh
    },
    status: {
      summary: 'Show how each partner\'s bundle fares, and when trust breaks',
      load: async () => (await import('./federation-status.ts')).federationStatus
    },
    invite: {
      summary: 'Print a signed invitation with which another trust domain can federate with this one',
      load: async () => (await import('./federation-invite.ts')).federationInvite
    },
    accept: {
      summary: 'Check another trust domain\'s invitation, show what it means, and federate with it',
      load: async () => (await import('./federation-accept.ts')).federationAccept
    }
  }
}
