from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, path

from conversations import views

urlpatterns: list[URLPattern] = [
    path("", views.home, name="home"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("signup/", views.signup, name="signup"),
    path("visitor/", views.visitor, name="visitor"),
    path("c/<uuid:pk>/", views.conversation, name="conversation"),
    path("c/<uuid:pk>/stop/", views.stop, name="stop"),
    path("c/<uuid:pk>/rename/", views.rename, name="rename"),
    path("c/<uuid:pk>/clear/", views.clear, name="clear"),
    path("c/<uuid:pk>/delete/", views.delete, name="delete"),
]
