"""The addresses of the pages."""

from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, path

from conversations import branching, keeping, sharing, shelf, tokens, views

urlpatterns: list[URLPattern] = [
    path("", views.home, name="home"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("signup/", views.signup, name="signup"),
    path("password/", views.PasswordView.as_view(), name="password"),
    path("tokens/", tokens.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", tokens.revoke, name="revoke-token"),
    path("visitor/", views.visitor, name="visitor"),
    path("c/<uuid:pk>/", views.conversation, name="conversation"),
    path("c/<uuid:pk>/stop/", views.stop, name="stop"),
    path("c/<uuid:pk>/regenerate/", branching.regenerate, name="regenerate"),
    path("c/<uuid:pk>/choose/", branching.choose, name="choose"),
    path("c/<uuid:pk>/rename/", keeping.rename, name="rename"),
    path("c/<uuid:pk>/setup/", keeping.setup, name="setup"),
    path("c/<uuid:pk>/clear/", keeping.clear, name="clear"),
    path("c/<uuid:pk>/delete/", keeping.delete, name="delete"),
    path("c/<uuid:pk>/restore/", keeping.restore, name="restore"),
    path("c/<uuid:pk>/export.md", keeping.download, {"kind": "md"}, name="export"),
    path("c/<uuid:pk>/export.json", keeping.download, {"kind": "json"}, name="export"),
    path("c/<uuid:pk>/share/", sharing.share, name="share"),
    path("c/<uuid:pk>/revoke/", sharing.revoke, name="revoke"),
    path("share/<slug:secret>/", sharing.shared, name="shared"),
    path("account/export.zip", keeping.account, name="export-account"),
    path("chats/", shelf.chats, name="chats"),
    path("search/", shelf.search, name="search"),
]
