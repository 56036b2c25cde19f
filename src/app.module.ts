import { type DynamicModule, Module, type Type } from '@nestjs/common';
import { APP_FILTER, APP_GUARD } from '@nestjs/core';
import {
  AppCredentials,
  DeviceGuard,
  IsolationGuard,
  Origins,
  RefusalEntries,
  RouteClassGuard,
  SessionGuard,
  Sessions,
} from './access/index.js';
import {
  AdministratorSignIn,
  Administrators,
  AdministratorsController,
  BreakGlass,
  Invitations,
  Passkeys,
  SignInController,
} from './administration/index.js';
import {
  AuditLogController,
  AuditReports,
  AuditSearch,
  AuditSearchController,
  KeyUses,
  KeyUsesController,
  LogBook,
  WitnessedLogs,
  WitnessingController,
} from './audit/index.js';
import { CertificateDirectory, CertificatesController, RevocationLists } from './certificates/index.js';
import { ActDesk } from './commands/act-desk.js';
import { ActsController } from './commands/acts.controller.js';
import { RecoveriesController, RecoveryCases } from './custody/index.js';
import {
  Announcements,
  DeviceRegistry,
  DevicesController,
  EnrolmentDesk,
  EnrolmentsController,
  FreezesController,
  StaffEnrolmentsController,
} from './devices/index.js';
import type { House } from './house.js';
import { Health, OPEN_API, OpenApiController, OperationController, openApi, ProblemFilter } from './http/index.js';
import { KeysController, KeyVault } from './keys/index.js';
import { PdfController, PdfDesk } from './pdf/index.js';
import { StaffController, StaffDoors } from './staff/index.js';

/** Every door of the interface; the OpenAPI document is made of them. */
export const CONTROLLERS: readonly Type[] = [
  KeysController,
  RecoveriesController,
  EnrolmentsController,
  FreezesController,
  DevicesController,
  CertificatesController,
  SignInController,
  AdministratorsController,
  StaffController,
  StaffEnrolmentsController,
  ActsController,
  PdfController,
  AuditLogController,
  AuditSearchController,
  KeyUsesController,
  WitnessingController,
  OperationController,
  OpenApiController,
];

@Module({})
class AppModule {}

/** The application: the house's use cases behind their controllers. */
export function appModule(house: House, defect: (error: unknown, request: string) => void): DynamicModule {
  return {
    module: AppModule,
    controllers: [...CONTROLLERS],
    providers: [
      { provide: KeyVault, useValue: house.vault },
      { provide: RecoveryCases, useValue: house.recoveries },
      { provide: EnrolmentDesk, useValue: house.desk },
      { provide: Announcements, useValue: house.announcements },
      { provide: DeviceRegistry, useValue: house.registry },
      { provide: CertificateDirectory, useValue: house.directory },
      { provide: RevocationLists, useValue: house.revocations },
      { provide: PdfDesk, useValue: house.pdf },
      { provide: KeyUses, useValue: house.keyUses },
      { provide: LogBook, useValue: house.logBook },
      { provide: WitnessedLogs, useValue: house.witnessedLogs },
      { provide: AuditReports, useValue: house.auditReports },
      { provide: AuditSearch, useValue: house.auditSearch },
      { provide: Health, useValue: house.health },
      { provide: IsolationGuard, useValue: house.isolation },
      { provide: OPEN_API, useValue: () => openApi(CONTROLLERS) },
      { provide: DeviceGuard, useValue: house.deviceGuard },
      { provide: AppCredentials, useValue: house.apps },
      { provide: SessionGuard, useValue: house.sessionGuard },
      { provide: Origins, useValue: house.origins },
      { provide: Sessions, useValue: house.sessions },
      { provide: StaffDoors, useValue: house.staff },
      { provide: Passkeys, useValue: house.passkeys },
      { provide: Administrators, useValue: house.administrators },
      { provide: AdministratorSignIn, useValue: house.signIn },
      { provide: Invitations, useValue: house.invitations },
      { provide: BreakGlass, useValue: house.breakGlass },
      { provide: ActDesk, useValue: new ActDesk(house) },
      { provide: APP_GUARD, useClass: RouteClassGuard },
      { provide: APP_FILTER, useValue: new ProblemFilter(new RefusalEntries(house), defect, (code) => house.health.away(code)) },
    ],
  };
}
